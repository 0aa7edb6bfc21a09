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
LEARNING_RATE = 2e-4  # language; at 3e-4 six of eight placements with language layers violate a guard twice in a row
VISION_LEARNING_RATE = 3e-3  # vision; at 1e-3 six blocks learn nothing in these steps (1 % exact)
WEIGHT_DECAY = 0.1
WARMUP_RATIO = 0.2
STEPS = 120  # two epochs; the fit is still rising, so that more steps improve it
BATCH_ROWS = 16
ACCUMULATION_STEPS = 1  # 16 rows fit into memory; accumulating single rows takes four times the wall time
EVAL_EVERY_STEPS = 24  # five evals: as many as cost at most 1.2 times the sweep with four and no reserve

# the same values, as the settings of a trial on the miniature
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
BEFORE_FORMAT_3 = {"eval_every_steps": 30}  # of experiments that were begun in formats 1 and 2
