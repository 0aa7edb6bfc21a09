"""Tests that every part of a key changes it, and where a pass starts."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.frozen.key import Cut, Facts, cut_of, picture_cut, picture_key, row_key, trunk_key

FACTS = Facts(**{one.name: f"some {one.name}" for one in fields(Facts)})
CUT = Cut("language", 3)
NOBODY, FIRST, BOTH = frozenset[int](), frozenset({0}), frozenset({0, 1})


@pytest.mark.parametrize("name", [one.name for one in fields(Facts)])
@given(other=st.text())
def test_every_fact_changes_the_key_of_a_trunk(name: str, other: str) -> None:
    changed = replace(FACTS, **{name: other})
    assert (trunk_key(changed, CUT) == trunk_key(FACTS, CUT)) == (changed == FACTS)


def test_the_text_of_one_fact_is_not_mistaken_for_that_of_two() -> None:
    assert trunk_key(replace(FACTS, device="a", arithmetic="bc"), CUT) != trunk_key(
        replace(FACTS, device="ab", arithmetic="c"), CUT
    )


@given(st.builds(Cut, st.sampled_from(["language", "vision"]), st.integers(0, 99)))
def test_the_cut_changes_the_key_of_a_trunk(other: Cut) -> None:
    assert (trunk_key(FACTS, other) == trunk_key(FACTS, CUT)) == (other == CUT)


ROWS = st.tuples(
    st.lists(st.integers(0, 2**31), max_size=5),
    st.lists(st.text(max_size=4), max_size=3),
    st.none() | st.lists(st.integers(0, 9), max_size=3),
)


@given(ROWS, ROWS)
def test_tokens_pictures_and_positions_change_the_key_of_a_row(one: tuple, other: tuple) -> None:
    assert (row_key(*one) == row_key(*other)) == (one == other)


PICTURES = st.tuples(st.binary(max_size=8), st.lists(st.integers(1, 9), max_size=3), st.sampled_from(["a", "b"]))


@given(PICTURES, PICTURES)
def test_pixels_grid_and_type_change_the_key_of_a_picture(one: tuple, other: tuple) -> None:
    assert (picture_key(*one) == picture_key(*other)) == (one == other)


LANGUAGE = [NOBODY, NOBODY, NOBODY, NOBODY, FIRST, BOTH]
VISION = [NOBODY, NOBODY, FIRST, FIRST]


@pytest.mark.parametrize(
    ("members", "has_pictures", "taps", "expected"),
    [
        ({0, 1}, False, 3, Cut("language", 4)),
        ({1}, False, 3, Cut("language", 5)),
        ({2}, False, 3, Cut("language", 6)),  # nobody differs: all blocks are frozen
        ({0, 1}, True, 3, Cut("vision", 2)),  # a member adapts the vision tower
        ({1}, True, 5, Cut("language", 5)),  # DeepStack adds to blocks 0 to 4, of which block 5 sees the sum
        ({1}, True, 6, Cut("vision", 4)),  # and here to block 5's own output
        ({1}, True, 0, Cut("language", 5)),
    ],
)
def test_a_pass_starts_at_the_highest_place_below_all_adapters(
    members: set[int], has_pictures: bool, taps: int, expected: Cut
) -> None:
    differing = {"language": LANGUAGE, "vision": VISION}
    assert cut_of(differing, frozenset(members), has_pictures, taps) == expected


def test_a_pass_without_anything_below_starts_at_the_beginning() -> None:
    differing = {"language": [FIRST], "vision": [FIRST]}
    assert cut_of(differing, FIRST, True, 0) is None and cut_of(differing, FIRST, False, 0) is None
    assert picture_cut(differing, FIRST) is None
    assert cut_of({"language": [FIRST], "vision": [NOBODY]}, FIRST, True, 0) == Cut("vision", 1)
    assert picture_cut({"language": [FIRST], "vision": [NOBODY]}, FIRST) == Cut("vision", 1)
