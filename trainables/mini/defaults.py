"""Training settings of the miniature: those of its base, and the defaults of its sweeps."""

from __future__ import annotations

BASE_STEPS = 3200  # about 15 minutes on an idle core
BASE_SEED = 1
BASE_BATCH_ROWS = 32
BASE_LEARNING_RATE = 2e-3
BASE_WARMUP_RATIO = 0.05

RANK = 16
ALPHA = 32.0
DROPOUT = 0.1
LEARNING_RATE = 2e-4  # language; at 3e-4 six of eight placements with language layers break a guard twice running
VISION_LEARNING_RATE = 3e-3  # vision; at 1e-3 six blocks learn nothing in this budget (1 % exact)
WEIGHT_DECAY = 0.1
WARMUP_RATIO = 0.2
STEPS = 120  # two passes over the training rows; the task is still rising, so that a larger budget pays
BATCH_ROWS = 16
ACCUMULATION_STEPS = 1  # a batch fits; a row at a time would cost four times the wall time
EVAL_EVERY_STEPS = 30  # four evals, so that a guard of two consecutive ones can act half-way

# the same, as the settings of a trial on the miniature
SETTINGS = {
    "rank": RANK,
    "alpha": ALPHA,
    "dropout": DROPOUT,
    "learning_rate": LEARNING_RATE,
    "vision_learning_rate": VISION_LEARNING_RATE,
    "weight_decay": WEIGHT_DECAY,
    "warmup_ratio": WARMUP_RATIO,
    "steps": STEPS,
    "batch_rows": BATCH_ROWS,
    "accumulation_steps": ACCUMULATION_STEPS,
    "eval_every_steps": EVAL_EVERY_STEPS,
}
