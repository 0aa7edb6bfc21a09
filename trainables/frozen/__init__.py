"""Keeps what the frozen layers below all adapters compute for a row, so that it is computed once.

- `budget`: How much memory kept activations may take, from the memory that is free.
- `entry_files`: Kept activations in files: one checksummed file a row, in a directory that all engines of a node share.
- `entry_memory`: Kept activations in memory: rows that are read every epoch stay, others make room.
- `facts`: What decides the activations of a loaded base: its weights, configuration, device, libraries and code.
- `grouping`: In which shape activations are computed: a shape that depends on the length of a row alone.
- `keeping_file`: The file of a record that says whether its passes start from kept activations, so that a resumed trial
  does alike.
- `key`: Where a pass can start, and under which key activations are kept; pure functions.
- `kept`: Finds or computes the activations of the rows of a batch, and joins them to the inputs of one block.
- `partial_forward`: Runs a part of a model's forward: skips blocks, and replaces or catches the input of a block.
- `settings`: Where activations are kept: in memory, and in files of limited size.
- `store`: Kept activations in memory, then in files.
- `trunk`: Computes the activations of one row or one picture, in the one shape in which they are kept.
- `worth`: Decides whether keeping activations pays, from how often rows are read and what a step takes; pure functions.
"""
