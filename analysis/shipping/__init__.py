"""Ships a seed of an arm: chooses it, writes its directory and model card, and checks it in a fresh process.

- `card`: Writes the model card of a shipped directory.
- `chosen`: Chooses which seed of which arm is shipped, and finds its adapter in the record.
- `command`: The command `analysis ship`.
- `ship`: Writes a directory to ship, and keeps it only if a fresh process measures the recorded numbers.
"""
