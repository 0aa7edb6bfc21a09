"""Finds broken training and broken evals.

- `checks`: Detects broken training from statistics of steps and evals.
- `criteria`: Success criteria: labels that say whether a trial learned enough, with thresholds fixed before it runs.
- `eval_controls`: Controls of an eval: prompts, references and adapters for which a low score is expected.
- `eval_integrity`: Eval integrity: checks that the model itself generated every scored answer.
- `monitor`: Collects gradients, rates and weights of a training trial for the health checks; finds dead modules.
"""
