"""Evaluation suites of others as probes: lm-eval's tasks at each eval, lmms-eval's on kept adapters.

- `answering`: Answers the requests of a suite for all members of an eval, in batches.
- `generators`: Keeps the state of the global random generators while foreign code runs.
- `lm_eval_probe`: Tasks of lm-eval as a probe: their requests are built once and answered at each eval.
- `lm_eval_scores`: What lm-eval found as scores: by row, with direction, unit, number of rows and standard error.
- `lm_eval_tasks`: Loads tasks of lm-eval from local files, and checks them before anything is spent.
- `lmms_eval`: Runs lmms-eval in an environment of its own on a kept adapter, and writes its scores.
- `lmms_worker`: The side of lmms-eval, which its own interpreter runs.
- `replay`: A model of lm-eval that replays answers, and lm-eval's scoring of them.
- `requested`: Makes the probes that a study asks for beside its own.
"""
