"""Trains several trials together on one base.

- `calibration_memory`: Remembers in the user's cache which cut of a cohort into passes was fastest, by shape of the
  work and machine.
- `cohort`: A cohort: trials that train together on one base, with the same results as training each alone.
- `evaluator`: Evaluates a whole cohort with shared teacher-forced passes and shared decode batches.
- `opening`: Opens a cohort: with shared passes if the family of the base supports them, else sequential.
- `pass_width`: Chooses how many trials a pass computes: narrow passes repeat shared layers, wide ones exceed caches
  or memory.
- `sequential`: Trains trials one after another on the loaded base, for families whose trials cannot share passes.
- `shared_forward`: One forward pass for several trials: a block runs once for all trials that do not differ up to it.
- `shared_prefix`: Computes the text before the first image once for all groups: keys and values for the language
  layers.
- `stacked_lora`: Applies the adapters of several trials, stacked, to the linears of one base.
"""
