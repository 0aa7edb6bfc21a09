"""Trains several trials together on one base.

- `calibration`: Measures which cut of a cohort is fastest; each trial alone is always one of those measured.
- `cohort`: A cohort: trials that train together on one base, with the same results as training each alone.
- `cuts`: Cuts a cohort into passes by parting depth: where each trial leaves the frozen trunk, which a pass computes
  once.
- `evaluator`: Evaluates a whole cohort with shared teacher-forced passes and shared decode batches.
- `graph_rows`: Keeps a graph only for the groups of a pass that need one.
- `label_rows`: Computes the last language layer only at the positions whose outputs are read: those that predict a
  label.
- `opening`: Opens a cohort: with shared passes if the family of the base supports them, else sequential.
- `sequential`: Trains trials one after another on the loaded base, for families whose trials cannot share passes.
- `shared_forward`: One forward pass for several trials: a block runs once for all trials that do not differ up to it.
- `shared_prefix`: Computes the text before the first image once for all groups: keys and values for the language
  layers.
- `stacked_lora`: Applies the adapters of several trials, stacked, to the linears of one base.
"""
