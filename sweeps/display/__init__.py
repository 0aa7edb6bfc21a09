"""Text and tables that a sweep prints in the terminal.

- `closing_tables`: The closing tables that a study names in `tables`, shown before the summary of a launch.
- `launch_json`: A plan, or the results of a launch, as JSON for scripts.
- `live_table`: Progress of a running sweep: a live table on a terminal, one line per event without a terminal.
- `layout`: Which rows of the live table fit the terminal, and which are folded into one line.
- `notebook`: The live table in a notebook: one output below the cell that is replaced, with the lines above it.
- `plan_table`: The plan as text: the trials, a summary of the data, and the findings of preflight.
- `progress`: Lines that say what a launch does now: with the time of day where the output is no terminal, as in a log.
- `summary`: The summary that ends a launch: how the trials ended, the frontier, and the next command.
- `time_left`: Estimates how long the unfinished trials still take, from the wall clock.
- `trial_rows`: One trial in the live table: its phase, its newest eval and its verdict, as cells and as a line.
"""
