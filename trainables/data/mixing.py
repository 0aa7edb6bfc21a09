"""Mixes replay rows into the training rows: general rows that a model shall not forget while it learns the task."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction

from trainables.data.encoding import data_order


def mixed_order(task_rows: int, replay_rows: int, ratio: float, data_seed: int) -> Iterator[int]:
    """Yield row numbers endlessly, of which `ratio` are replay rows, numbered from `task_rows` on.

    The task rows come in the order that they have without replay. The replay rows are spread evenly: of any 10 rows in
    sequence, a ratio of 0.1 makes one. Both are permuted in every pass by the data seed, as is the place of the first.
    """
    share = Fraction(str(ratio))
    if not share:
        yield from data_order(task_rows, data_seed)
        return
    phase = random.Random(f"{data_seed}-replay").randrange(share.denominator)
    task, replay = data_order(task_rows, data_seed), data_order(replay_rows, f"{data_seed}-replay")
    before = phase
    for _ in itertools.count():
        after = before + share.numerator
        is_replay = after >= share.denominator
        before = after % share.denominator
        yield task_rows + next(replay) if is_replay else next(task)
