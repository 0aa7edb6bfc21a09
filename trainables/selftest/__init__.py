"""Checks before training: three optimizer steps that test an arm, and checks of the machine.

- `judge`: Checks the values that the self-test measures before the first step (failure corpus, section S1).
- `machine`: Checks what this machine can train: torch, devices, and every quantization with the miniature model.
- `mapped_base`: Lets a base on a CPU use the weights in its files instead of copies, for a process that is rarely used.
- `reload`: A separate process that loads a saved adapter with plain PEFT and compares its logits with the live
  adapter's.
- `rows`: Selects the few rows that the self-test trains on: rows with images, and text rows.
- `run`: The self-test: three steps before training check adapter, optimizer, and that the frozen base does not
  change.
- `snapshot`: The state of an adapter and its optimizer, to be restored after the self-test.
"""
