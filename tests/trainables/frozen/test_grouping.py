"""Tests the shapes in which rows are computed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainables.frozen.grouping import CPU_TOKENS, GroupShape, filled, groups_of, picture_shape, row_shape


@given(st.integers(1, 5000), st.sampled_from([0, 256, 512]))
def test_a_group_has_padding_in_every_line_and_stays_small(tokens: int, most: int) -> None:
    shape = row_shape(tokens, most)
    if shape.lines == 1:
        assert shape.tokens == tokens
    else:
        assert shape.tokens > tokens and shape.lines * shape.tokens <= most


def test_short_rows_share_a_pass_and_long_ones_have_their_own() -> None:
    assert row_shape(59, CPU_TOKENS) == GroupShape(4, 64) and row_shape(64, CPU_TOKENS) == GroupShape(2, 96)
    assert row_shape(130, CPU_TOKENS) == GroupShape(1, 130)
    assert row_shape(59, 0) == GroupShape(1, 59), "of int8"
    assert picture_shape(64, CPU_TOKENS) == GroupShape(4, 64) and picture_shape(1000, 512) == GroupShape(1, 1000)


@given(st.lists(st.integers(0, 99), min_size=1, unique=True), st.integers(1, 8))
def test_every_number_is_in_a_group_and_all_groups_are_full(numbers: list[int], lines: int) -> None:
    found = filled(numbers, lines)
    assert all(len(one) == lines for one in found)
    assert [number for one in found for number in dict.fromkeys(one)] == numbers


def test_items_are_grouped_in_order() -> None:
    assert groups_of(["a", "b", "a"]) == {"a": [0, 2], "b": [1]}
