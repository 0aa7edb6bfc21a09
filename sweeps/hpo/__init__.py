"""Searches placements and settings with Optuna.

- `outcome`: The outcome of a trial for a search: its objective values, its distance to each guard's limit, and how it
  ended.
- `plan_text`: The plan of a search as text: its space, objectives and budget, the data, and what is decided at the
  evals.
- `planning`: Plans a search: its space on a base and data, the trials at the edges of the space, and its
  configuration.
- `points`: The trial of each point of a search's space; imports neither torch nor Optuna.
- `run`: The job of a search: runs cohorts of trials that Optuna suggests, and tells Optuna their outcomes.
- `sampler`: Optuna's ask-and-tell interface: asks for the next trials, and tells their outcomes.
- `space`: The space of a search, a study without arms; imports neither torch nor Optuna.
"""
