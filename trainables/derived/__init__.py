"""Copies of a trial's adapters that no step of training ended with: scaled and averaged ones, and their evals.

- `average`: Averages the weight changes of several LoRA adapters, and cuts the mean to their rank.
- `candidate_name`: The name of a candidate as people type it: `C2 @ 60`, `C2 @ 60 x 0.5`, `C2 @ 90 average`.
- `copies`: Which copies a record can give, and how one is saved as a plain PEFT adapter; imports no torch.
- `measuring`: Evaluates adapters and copies without training, as one cohort where the family has a shared forward.
"""
