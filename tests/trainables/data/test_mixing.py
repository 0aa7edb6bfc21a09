"""Replay rows among the task rows: their share, their places, and what stays as without them."""

from __future__ import annotations

from itertools import islice

import pytest

from trainables.data.encoding import data_order
from trainables.data.mixing import mixed_order
from trainables.data_files import rows_of_a_pass

TASK, REPLAY = 90, 7


def test_without_replay_the_order_is_as_before() -> None:
    assert list(islice(mixed_order(TASK, 0, 0.0, 3), 300)) == list(islice(data_order(TASK, 3), 300))


@pytest.mark.parametrize(("ratio", "window", "count"), [(0.1, 10, 1), (0.25, 4, 1), (0.3, 10, 3), (0.15, 20, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_every_window_holds_the_share(ratio: float, window: int, count: int, seed: int) -> None:
    order = list(islice(mixed_order(TASK, REPLAY, ratio, seed), 1000))

    for start in range(len(order) - window):
        assert sum(one >= TASK for one in order[start : start + window]) == count


def test_the_task_rows_keep_their_order_and_a_pass_holds_each_once() -> None:
    a_pass = rows_of_a_pass(TASK, 0.1)
    order = list(islice(mixed_order(TASK, REPLAY, 0.1, 0), a_pass))

    task = [one for one in order if one < TASK]
    assert a_pass == 100 and sorted(task) == list(range(TASK)) and task == list(islice(data_order(TASK, 0), TASK))
    assert {one for one in order if one >= TASK} == set(range(TASK, TASK + REPLAY)), "10 replay rows of 7 take each"


def test_the_seed_decides_places_and_order() -> None:
    def replayed(seed: int) -> list[tuple[int, int]]:
        order = enumerate(islice(mixed_order(TASK, REPLAY, 0.1, seed), 200))
        return [(place, one) for place, one in order if one >= TASK]

    assert replayed(0) == replayed(0)
    assert len({tuple(replayed(seed)) for seed in range(6)}) == 6
    assert len({replayed(seed)[0][0] for seed in range(20)}) > 3, "the first place is drawn too"


@pytest.mark.parametrize(("ratio", "rows"), [(0.0, 960), (0.1, 1067), (0.5, 1920), (0.25, 1280)])
def test_a_pass_grows_by_the_share(ratio: float, rows: int) -> None:
    assert rows_of_a_pass(960, ratio) == rows
