"""Evaluates models: evals during training, and answers to held-out prompts."""
