"""Command lines: parses options and calls the launch.

- `ahead`: What a launch from a command line begins before its plan is read: imports of libraries, here and where it
  forks.
- `axes`: Turns the options `--modules`, `--layers` and `--mix` into axes, alike for studies, searches and staged
  studies.
- `command_groups`: The groups in which the help of `footprint` lists its commands.
- `command_line`: The command line of a study as a value: its options, and the job and launch that they describe.
- `config_options`: The options `--config` and `--write-config` of a study's command line.
- `curriculum`: The command line of a curriculum: stages from YAML files, or the miniature's three stages.
- `ended_options`: Options of the commands that measure an experiment after its trials have ended.
- `examples`: One example of each command of `footprint`, shown at the end of its help and in the reference.
- `footprint`: The command `footprint`: every study, and the entry points `footprint.commands` of installed packages.
- `list_experiments`: `footprint list`: the experiments of a storage.
- `logs`: `footprint logs`: the log of a trial, read from its record, until it ends.
- `main`: The driver of all command lines: parses options, plans, shows or runs a job, and exits with a documented
  code.
- `options`: The shared options of the command lines: a frozen dataclass whose field docstrings are the help texts.
- `printed_commands`: The commands that a launch prints: typed as they stand, they resume it or copy its records to
  MLflow.
- `remove`: `footprint rm`: removes an experiment, with its runs in MLflow.
- `search`: The command line of a search: its space, its sampler and its budget.
- `signature`: Converts dataclasses of options to the signature that typer reads, and values back to words of a
  command line.
- `status`: `footprint status`: what an experiment does now, read from its records.
- `study`: The command line of a study of independent trials: its arms and axes (`--only`, `--rank 8,16`, `--seeds`).
- `studies`: The studies of this package and what else runs trials, by name, each with its command line.
- `study_file`: A study's configuration as one YAML file: read by `--config`, written by `--write-config`.
- `submit`: `footprint submit`: checks a cluster, then runs a study on it as a job, and follows its log.
- `unfreeze`: The command line of a progressive unfreezing: each arm extends the best adapter of the arm before.
- `watch_options`: Options and arguments that subcommands of `footprint` share.
"""
