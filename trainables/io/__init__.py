"""Reads and writes files safely: atomic writes, strict JSON, JSONL and YAML readers.

- `checksums`: Canonical JSON, JSON objects with a checksum, and SHA-256 of files that is remembered between processes.
- `files`: Reads and writes text and JSON files; writes are atomic: after a crash a file is either complete or absent.
- `jsonl`: Reads the JSON objects of a data file with their line numbers: JSONL, or one array of objects.
- `places`: The rule for what a foreign file names: it lies in the file's own directory, or in one that the user names.
- `manifest`: The manifest of a saved directory: the hash of each of its files, written last.
- `requests`: Reads the request that a module of this project writes to the standard input of its worker process.
- `strict_yaml`: Strict YAML: duplicate keys, ambiguous numbers and alias bombs are errors; the line of every key is
  kept.
- `task_files`: Digests of the files that tasks of suites are made of.
- `user_cache`: The directory in which results are kept between processes: `$XDG_CACHE_HOME/footprint` or
  `~/.cache/footprint`.
"""
