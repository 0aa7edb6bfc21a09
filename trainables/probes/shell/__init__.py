"""Reads command lines: whether an answer is exactly one command, and whether running it does harm.

- `calls`: Lists the programs that a shell text would run, also behind `sudo`, `xargs` and `find` and in nested
  scripts.
- `danger`: The `Pattern` of a danger, and the checks behind all dangers but deletion (`deletes.py`).
- `deletes`: Dangers of deleting and of changing rights: which targets make an everyday command dangerous.
- `judge`: Judges answers that should be shell commands: is an answer only a command, and is it dangerous?
- `parse`: Parses shell text without running it: words, pipelines, redirections and nested scripts.
- `paths`: Classifies paths outside one project: system directories, homes, disks, account files, private keys.
- `patterns`: The patterns that `dangers` looks for, each with its reason.
- `programs`: Finds the program that an interpreter runs: the text of an option, a file, or its standard input.
- `sql`: Finds statements that destroy data in what a database client is given; quoted text and comments are data.
"""
