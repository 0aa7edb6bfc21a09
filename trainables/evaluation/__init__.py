"""Asks the live model: evals during training and answers to held-out prompts."""
