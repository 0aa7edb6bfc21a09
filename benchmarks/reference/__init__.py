"""Writes `docs/reference/` from the code: `make reference`. A page is a function without arguments, in `__main__`.

- `commands`: Every command of `footprint`, as typer describes it.
- `environment`: The environment variables that the code reads.
- `exit_codes`: The exit codes of all commands.
- `guards`: The rules of guards, and the guards of each study with their values.
- `metrics`: Every metric, by the probe that measures it.
- `python_names`: The public names of `sweeps` and `analysis`.
- `settings`: The settings of a trial, from its model.
- `study_files`: The keys of the files of `--config`, from their schema.
- `tables`: Tables and texts in Markdown.
"""
