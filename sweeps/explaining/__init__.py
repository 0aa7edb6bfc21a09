"""Explains a placement before anything is run: its modules, what arms share, and the same placement in other tools.

- `configuration`: Finds the configuration of a base without its weights: a directory, a file, or a cached model id.
- `explanation`: What is said of a placement, as plain values.
- `sharing`: How much of a pass two placements share.
- `text`: An explanation as lines for a terminal.
"""
