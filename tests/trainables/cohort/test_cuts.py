"""Tests how a cohort is cut into passes: what a cut holds, which are worth a measurement, and which is chosen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.cohort.calibration import HOPELESS, MIN_GAIN, Calibration, calibrated, step_seconds
from trainables.cohort.cuts import ALONE, Cut, Member, Trunk, candidates, forecast, narrower, ordered, passes

TEXT, SEEING = Trunk(30, 0), Trunk(36, 24, taps=3, block_cost=0.3)
DEPTHS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12)), min_size=1, max_size=12)
EDGES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8)), max_size=3).map(lambda one: tuple(sorted(set(one))))


def members(depths: Sequence[tuple[int, int]]) -> list[Member]:
    """Make members from (language layers, vision blocks)."""
    return [Member(number, *one) for number, one in enumerate(depths)]


def cost_of(everyone: Sequence[Member], trunk: Trunk, cut: Cut) -> float:
    by_number = {one.number: one for one in everyone}
    return sum(forecast([by_number[number] for number in one], trunk) for one in passes(everyone, cut))


# -------------------------------------------------------------------- what a cut is
@given(depths=DEPTHS, edges=EDGES, width=st.integers(1, 14))
def test_passes_hold_each_member_once_and_never_cross_an_edge(
    depths: list[tuple[int, int]], edges: tuple[tuple[int, int], ...], width: int
) -> None:
    cut = passes(members(depths), Cut(edges, width))
    assert sorted(number for one in cut for number in one) == list(range(len(depths)))
    bands: dict[int, list[int]] = {}
    for one in cut:
        own = {sum((depths[number][1], depths[number][0]) >= edge for edge in edges) for number in one}
        assert len(own) == 1 and 0 < len(one) <= width
        bands.setdefault(own.pop(), []).append(len(one))
    for sizes in bands.values():
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == -(-sum(sizes) // width)  # not one pass more than it takes


def test_members_of_similar_depth_share_a_pass() -> None:
    depths = [(8, 0), (1, 6), (1, 0), (4, 2), (2, 0), (0, 2), (4, 0)]
    assert [one.number for one in ordered(members(depths))] == [2, 4, 6, 0, 5, 3, 1]
    assert passes(members(depths), Cut(((2, 0),), 2)) == [(2, 4), (6, 0), (5,), (3, 1)]
    assert passes(members(depths), Cut((), 9)) == [(2, 4, 6, 0, 5, 3, 1)]
    assert passes(members(depths), ALONE) == [(2,), (4,), (6,), (0,), (5,), (3,), (1,)]
    assert passes([], Cut(((2, 0),), 2)) == []


def test_a_cut_serves_the_members_that_remain() -> None:
    everyone = members([(2, 0), (4, 0), (30, 0), (2, 0), (30, 0)])
    cut = Cut(((0, 20),), 3)
    assert passes(everyone, cut) == [(0, 3, 1), (2, 4)]
    assert passes(everyone[1:4], cut) == [(3, 1), (2,)]


def test_a_measurement_can_be_written_and_read_again() -> None:
    found = Calibration(Cut(((0, 30), (2, 1)), 4), 1.5, 2.0)
    read = json.loads(json.dumps(asdict(found)))
    edges = tuple((vision, language) for vision, language in read["cut"]["edges"])
    assert Calibration(Cut(edges, read["cut"]["width"]), read["seconds"], read["alone_seconds"]) == found


@pytest.mark.parametrize(
    ("cut", "failed", "expected"),
    [
        (None, 8, Cut((), 4)),
        (None, 1, ALONE),
        (Cut(((1, 0),), 8), 8, Cut(((1, 0),), 4)),
        (Cut(((1, 0),), 8), 3, Cut(((1, 0),), 1)),
        (Cut((), 2), 5, Cut((), 2)),
        (ALONE, 1, ALONE),
    ],
)
def test_what_did_not_fit_is_halved(cut: Cut | None, failed: int, expected: Cut) -> None:
    assert narrower(cut, failed) == expected


# -------------------------------------------------------------------- what a pass costs
def test_a_pass_repeats_the_trunk_of_none_of_its_members() -> None:
    two, four, all_layers = members([(2, 0), (4, 0), (30, 0)])
    # forward 30 layers each, backward from the lowest adapter on
    assert [forecast([one], TEXT) for one in (two, four, all_layers)] == [32, 34, 60]
    assert forecast([two, four], TEXT) == 28 + 2 + 4 + 2 + 4
    # one that parts first shares nothing, and sends no gradient through the others' frozen layers
    assert forecast([two, four, all_layers], TEXT) == forecast([two, four], TEXT) + 60


def test_a_member_that_sees_has_all_language_layers_for_itself() -> None:
    sees, blind = Member(0, 2, 6), Member(1, 2, 0)
    assert forecast([sees], SEEING) == pytest.approx(36 + 36 + 0.3 * (24 + 6))
    assert forecast([blind], SEEING) == pytest.approx(36 + 2 + 0.3 * 24)
    assert forecast([sees, blind], SEEING) == pytest.approx(72 + 38 + 0.3 * (24 + 6 + 6))
    # of rows without images it is as blind as the other
    assert forecast([sees, blind], Trunk(36, 24, 3)) == 34 + 2 * (2 + 2)


def test_deepstack_parts_a_member_before_the_first_layer() -> None:
    deep, shallow = Member(0, 34, 0), Member(1, 2, 0)
    together = forecast([deep, shallow], SEEING)
    assert together == pytest.approx(36 + 34 + 36 + 2 + 0.3 * 24)  # the taps reach layer 2, where it starts
    assert forecast([Member(0, 33, 0), shallow], SEEING) == pytest.approx(34 + 33 + 33 + 2 + 2 + 0.3 * 24)


def test_where_activations_are_kept_unlike_depths_do_not_share() -> None:
    kept = Trunk(30, 0, kept=True)
    two, four = members([(2, 0), (4, 0)])
    assert forecast([two], kept) + forecast([four], kept) == 2 * 2 + 2 * 4
    assert forecast([two, four], kept) == 2 + 2 * 2 + 2 * 4  # the pass starts at the lower of both


# -------------------------------------------------------------------- which cuts are measured
def test_an_arm_of_all_layers_is_cut_from_the_shallow_ones() -> None:
    everyone = members([(2, 0), (4, 0), (30, 0)])
    cuts = [passes(everyone, cut) for cut in candidates(everyone, TEXT)]
    assert cuts == [[(0,), (1,), (2,)], [(0, 1, 2)], [(0, 1), (2,)]]


def test_members_of_one_depth_are_cut_into_equal_halves() -> None:
    everyone = members([(2, 0)] * 12)
    assert [cut.width for cut in candidates(everyone, TEXT)] == [1, 12, 6, 3, 2]
    assert all(not cut.edges for cut in candidates(everyone, TEXT))


def test_passes_of_equal_depth_are_always_measured() -> None:
    everyone = members([(2, 0), (2, 0), (4, 0), (4, 0), (16, 0), (30, 0)])
    for trunk in (TEXT, Trunk(30, 0, kept=True)):
        assert [(0, 1), (2, 3), (4,), (5,)] in [passes(everyone, cut) for cut in candidates(everyone, trunk)]


@given(depths=DEPTHS, kept=st.booleans())
def test_candidates_are_each_alone_and_cuts_that_differ(depths: list[tuple[int, int]], kept: bool) -> None:
    everyone, trunk = members(depths), Trunk(8, 12, 3, 0.3, kept)
    cuts = candidates(everyone, trunk)
    assert cuts[0] == ALONE
    made = [tuple(passes(everyone, cut)) for cut in cuts]
    assert len(set(made)) == len(made) <= 2 + len(everyone).bit_length()
    if not kept:  # sharing never costs arithmetic
        assert all(cost_of(everyone, trunk, cut) <= cost_of(everyone, trunk, ALONE) + 1e-9 for cut in cuts)


# -------------------------------------------------------------------- which cut is chosen
def of_size(seconds_of_size: Callable[[int], float | None]) -> Callable[[Sequence[int]], float | None]:
    return lambda numbers: seconds_of_size(len(numbers))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (lambda size: 1.0 + 0.1 * size, 12),  # what is shared is paid once
        (float, 1),  # nothing is gained
        (lambda size: {1: 1.0, 2: 1.2, 3: 1.5, 6: 4.8, 12: 11.5}[size], 3),  # too wide loses
        (lambda size: 1.0 if size <= 3 else None, 3),  # six do not fit the device
        (lambda size: None, 1),  # not even one fits: the training itself will say so
    ],
)
def test_the_fastest_cut_is_chosen(seconds: Callable[[int], float | None], expected: int) -> None:
    assert calibrated(members([(2, 0)] * 12), TEXT, of_size(seconds)).cut == Cut((), expected)


def test_a_single_member_is_not_measured() -> None:
    asked: list[Sequence[int]] = []
    assert calibrated(members([(2, 0)]), TEXT, asked.append) == Calibration(ALONE) and not asked  # type: ignore[arg-type]


def test_what_is_chosen_was_timed_as_it_will_run_and_is_not_slower_than_each_alone() -> None:
    """The fault: widths were measured on members of one kind, and a cut that was slower than each alone was chosen."""
    everyone = members([(2, 0), (4, 0), (30, 0)])
    times = {(0,): 0.25, (1,): 0.25, (2,): 0.5, (0, 1, 2): 1.18, (0, 1): 0.3}
    asked: list[tuple[int, ...]] = []

    def seconds(numbers: Sequence[int]) -> float:
        asked.append(tuple(numbers))
        return times[tuple(numbers)]

    found = calibrated(everyone, TEXT, seconds)
    apart = [(0, 1), (2,)]
    assert passes(everyone, found.cut) == apart
    assert (found.seconds, found.alone_seconds) == (pytest.approx(0.8), pytest.approx(1.0))
    once = [(0,), (1,), (2,)]
    assert [sorted(asked[:3]), asked[3], sorted(asked[4:6])] == [once, (0, 1, 2), apart]
    assert [sorted(asked[6:9]), sorted(asked[9:])] == [once, apart]  # the slow one is not run again
    times[0, 1] = 0.5 - MIN_GAIN + 0.001
    assert calibrated(everyone, TEXT, seconds).cut == ALONE
    times[0, 1] = 0.5 - MIN_GAIN - 0.001
    assert passes(everyone, calibrated(everyone, TEXT, seconds).cut) == apart


@given(depths=DEPTHS, times=st.lists(st.floats(0.1, 10.0), min_size=20, max_size=20))
def test_no_choice_is_slower_than_each_alone(depths: list[tuple[int, int]], times: list[float]) -> None:
    known: dict[tuple[int, ...], float] = {}
    everyone = members(depths)
    seconds = lambda numbers: known.setdefault(tuple(numbers), times[len(known) % len(times)])  # noqa: E731
    found = calibrated(everyone, TEXT, seconds)
    if len(everyone) > 1:
        assert found.seconds is not None and found.alone_seconds is not None
        assert found.seconds == step_seconds(everyone, found.cut, seconds) <= found.alone_seconds
        assert found.alone_seconds == step_seconds(everyone, ALONE, seconds)


def test_of_passes_with_equal_members_one_is_timed() -> None:
    everyone = [Member(number, 2, 0, rank=8 if number < 6 else 16) for number in range(8)]
    asked: list[tuple[int, ...]] = []

    def seconds(numbers: Sequence[int]) -> float:
        asked.append(tuple(numbers))
        return float(len(numbers))

    assert step_seconds(everyone, Cut((), 2), seconds) == 8
    assert asked == [(0, 1), (6, 7)]


def test_a_slow_first_run_does_not_count_and_a_hopeless_cut_is_run_once() -> None:
    seen: dict[int, int] = {}

    def seconds(numbers: Sequence[int]) -> float:
        size = len(numbers)
        seen[size] = seen.get(size, 0) + 1
        return (1.2 if seen[size] == 1 else 1.0) * {4: 4.0 * HOPELESS, 2: 1.8, 1: 1.0}[size]

    found = calibrated(members([(2, 0)] * 4), TEXT, seconds)
    assert found.cut.width == 2 and found.seconds == pytest.approx(3.6)
    assert seen == {4: 1, 2: 2, 1: 2}


def test_a_cut_that_sometimes_fails_does_not_fit() -> None:
    runs: list[int] = []

    def seconds(numbers: Sequence[int]) -> float | None:
        runs.append(len(numbers))
        return None if len(numbers) == 4 and runs.count(4) == 2 else len(numbers) ** 0.5

    assert calibrated(members([(2, 0)] * 4), TEXT, seconds).cut == Cut((), 2)
