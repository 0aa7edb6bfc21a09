"""Tests for which groups of copies activations are kept: those that read entries which another group reads too."""

from __future__ import annotations

import pytest

from trainables.derived.measuring import Depths, cut_of, shared_cuts


def test_a_group_starts_where_its_deepest_copy_does() -> None:
    assert cut_of([(1, 0), (3, 0), (0, 4)]) == (3, 4)


@pytest.mark.parametrize(
    ("groups", "kept"),
    [
        ([], set()),
        ([[(1, 0)]], set()),
        ([[(1, 0)], [(2, 0)]], set()),  # other cuts have other entries
        ([[(1, 0)], [(1, 0)], [(2, 0)]], {(1, 0)}),
        ([[(1, 0), (2, 0)], [(2, 0), (2, 0)]], {(2, 0)}),
    ],
)
def test_cuts_that_several_groups_have_are_kept(groups: list[list[Depths]], kept: set[Depths]) -> None:
    assert shared_cuts(groups) == kept
