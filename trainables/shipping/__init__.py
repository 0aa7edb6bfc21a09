"""Makes a directory to ship of a recorded adapter, and measures it as its users will load it.

- `agreement`: Compares the numbers of a shipped directory with those in the record, within a stated tolerance.
- `base_terms`: Name, revision and licence of a base, from its own files.
- `job`: What a fresh process is asked to do with a shipped directory, as a value that crosses in a file.
- `machine_paths`: Finds paths of this machine in the files of a directory.
- `merged`: Merges an adapter into its base, and writes the merged model.
- `package`: Writes the PEFT directory: weights, configuration and provenance, without a path of this machine.
- `worker`: Loads a shipped directory in a fresh process and evaluates it.
"""
