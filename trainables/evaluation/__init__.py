"""Evaluates models: evals during training, and answers to held-out prompts.

- `answering`: Finds greedy answers: verifies drafts in shared passes, then decodes what is left.
- `answers`: Checks one generated answer (dangerous, near-empty, degenerate, correct) and computes rates over many.
- `decoding`: Greedy decoding: generates answers to prompts.
- `drafts`: Drafts: probable answers as tokens. One pass tells how far the model would give such an answer itself.
- `evaluator`: Evaluates the live model: answers every question once, greedily and in batches, and scores all probes.
- `held_out`: Generates answers of a saved checkpoint to held-out prompts, with plain PEFT and greedy decoding.
- `held_out_log`: Logs a validation as one MLflow run: parameters, rates, and the answers as an artifact.
- `live_probe`: Probes that run passes of their own in an eval, beside those that score the answers of the fixed
  questions.
- `near_ties`: Near ties: positions whose two best logits lie so close that another batch shape may order them
  otherwise.
- `passes`: What answers are found with: passes of one model, or of a cohort, over rows and prompts; and who watches
  them.
- `shift`: Measures the shift: KL(base to tuned) over the base's own greedy answers, also with one tower's LoRA off.
"""
