"""Evaluates models: evals during training, and answers to held-out prompts.

- `answers`: Checks one generated answer (dangerous, near-empty, degenerate, correct) and computes rates over many.
- `decoding`: Greedy decoding: generates answers to prompts.
- `evaluator`: Evaluates the live model: answers every question once, greedily and in batches, and scores all probes.
- `held_out`: Generates answers of a saved checkpoint to held-out prompts, with plain PEFT and greedy decoding.
- `held_out_log`: Logs a validation as one MLflow run: parameters, rates, and the answers as an artifact.
"""
