"""Trains several trials together on one base.

- `calibration`: Measures which cut of a cohort is fastest; each trial alone is always one of those measured.
- `calibration_memory`: Remembers in the user's cache which cut of a cohort into passes was fastest, by shape of the
  work and machine.
- `choosing`: Chooses how the steps of a cohort run: its cut into passes, and whether these start from kept activations.
- `cohort`: A cohort: trials that train together on one base, with the same results as training each alone.
- `cuts`: Cuts a cohort into passes by parting depth: where each trial leaves the frozen trunk, which a pass computes
  once.
- `evaluator`: Evaluates a whole cohort with shared teacher-forced passes and shared decode batches.
- `graph_rows`: Keeps a graph only for the groups of a pass that need one.
- `keeping`: Decides for a cohort whether its passes start from kept activations: as its records say, else by what steps
  take.
- `label_rows`: Computes the last language layer only at the positions whose outputs are read: those that predict a
  label.
- `opening`: Opens a cohort: with shared passes if the family of the base supports them, else sequential.
- `positions`: Positions of the tokens of a pass, for the rows of all groups.
- `sequential`: Trains trials one after another on the loaded base, for families whose trials cannot share passes.
- `shared_forward`: One forward pass for several trials: a block runs once for all trials that do not differ up to it.
- `shared_prefix`: Computes the text before the first image once for all groups: keys and values for the language
  layers.
- `stacked_lora`: Applies the adapters of several trials, stacked, to the linears of one base.
"""
