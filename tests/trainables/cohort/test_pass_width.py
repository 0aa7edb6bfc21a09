"""Tests how many trials share a pass: how passes are cut, and how their width is found and halved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.cohort.pass_width import MIN_GAIN, Member, PassWidths, by_kind, calibrated, candidates, narrower, passes

KINDS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12)), max_size=24)
WIDTH = st.integers(1, 30)


def members(depths: Sequence[tuple[int, int]]) -> list[Member]:
    return [Member(number, *one) for number, one in enumerate(depths)]


def of_language(count: int) -> list[Member]:
    return members([(2, 0)] * count)


def of_vision(count: int) -> list[Member]:
    return [Member(100 + number, 0, 2) for number in range(count)]


@given(depths=KINDS, language=WIDTH, vision=WIDTH)
def test_passes_hold_each_member_once_and_never_mix_kinds(
    depths: list[tuple[int, int]], language: int, vision: int
) -> None:
    cut = passes(members(depths), PassWidths(language, vision))
    assert sorted(number for one in cut for number in one) == list(range(len(depths)))
    for kind, width in ((False, language), (True, vision)):
        sizes = [len(one) for one in cut if (depths[one[0]][1] > 0) is kind]
        assert all((depths[number][1] > 0) is (depths[one[0]][1] > 0) for one in cut for number in one)
        assert all(0 < size <= width for size in sizes)
        assert max(sizes, default=0) - min(sizes, default=0) <= 1
        assert len(sizes) == -(-sum(sizes) // width)  # not one pass more than it takes


def test_members_of_similar_depth_share_a_pass() -> None:
    depths = [(8, 0), (1, 6), (1, 0), (4, 2), (2, 0), (0, 2), (4, 0)]
    assert passes(members(depths), PassWidths(2, 2)) == [(2, 4), (6, 0), (5,), (3, 1)]
    assert [[one.number for one in kind] for kind in by_kind(members(depths))] == [[2, 4, 6, 0], [5, 3, 1]]


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8, 9])]
)
def test_candidates_are_powers_of_two_and_all_at_once(count: int, expected: list[int]) -> None:
    assert candidates(count) == expected


def taking(seconds_by_width: Callable[[int], float | None]) -> Callable[[Sequence[int]], float | None]:
    return lambda numbers: seconds_by_width(len(numbers))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (lambda width: 1.0 + 0.1 * width, 12),  # what is shared is paid once
        (float, 1),  # nothing is gained
        (lambda width: {1: 1.0, 2: 1.2, 4: 1.6, 8: 4.8}.get(width, 99.0), 4),  # too wide loses
        (lambda width: 1.0 if width <= 4 else None, 4),  # eight do not fit the device
        (lambda width: None, 1),  # not even one fits: the training itself will say so
        (lambda width: {1: 1.0, 2: 2.0, 4: 2.0}.get(width, 99.0), 4),  # a bad width on the way is passed over
    ],
)
def test_the_width_with_the_fewest_seconds_per_trial_is_found(
    seconds: Callable[[int], float | None], expected: int
) -> None:
    assert calibrated(of_language(12), taking(seconds)).language == expected


@pytest.mark.parametrize(("gain", "expected"), [(MIN_GAIN + 0.001, 2), (MIN_GAIN - 0.001, 1)])
def test_a_wider_pass_must_be_faster_to_be_chosen(gain: float, expected: int) -> None:
    seconds = taking({1: 1.0, 2: 2.0 * (1.0 - gain)}.get)
    assert calibrated(of_language(2), seconds) == PassWidths(expected, 1)


def test_each_kind_is_measured_by_itself_on_its_own_shallowest_members() -> None:
    asked: list[tuple[int, ...]] = []

    def seconds(numbers: Sequence[int]) -> float:
        asked.append(tuple(numbers))
        return len(numbers) ** (2.0 if numbers[0] >= 100 else 0.5)

    assert calibrated([*of_vision(4), *of_language(4)], seconds) == PassWidths(language=4, vision=1)
    assert {one for one in asked if one[0] < 100} == {(0,), (0, 1), (0, 1, 2, 3)}
    assert {one for one in asked if one[0] >= 100} <= {(100,), (100, 101), (100, 101, 102, 103)}


def test_a_slow_first_run_of_a_shape_does_not_count() -> None:
    seen: set[int] = set()

    def seconds(numbers: Sequence[int]) -> float:
        first = len(numbers) not in seen
        seen.add(len(numbers))
        return 100.0 ** len(numbers) if first else 1.0

    assert calibrated(of_language(4), seconds).language == 4


def test_a_width_that_sometimes_fails_does_not_fit() -> None:
    runs: list[int] = []

    def seconds(numbers: Sequence[int]) -> float | None:
        runs.append(len(numbers))
        return None if len(numbers) == 4 and runs.count(4) == 2 else 1.0

    assert calibrated(of_language(4), seconds).language == 2


@pytest.mark.parametrize(
    ("widths", "failed", "expected"),
    [
        (None, 8, PassWidths(4, 4)),
        (None, 1, PassWidths(1, 1)),
        (PassWidths(8, 2), 8, PassWidths(4, 2)),
        (PassWidths(8, 3), 3, PassWidths(1, 1)),
        (PassWidths(2, 2), 2, PassWidths(1, 1)),
        (PassWidths(1, 1), 1, PassWidths(1, 1)),
    ],
)
def test_what_did_not_fit_is_halved(widths: PassWidths | None, failed: int, expected: PassWidths) -> None:
    assert narrower(widths, failed) == expected
