"""Tests the families that are timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.families import NAMES, family
from trainables.mini import defaults
from trainables.sharing_keys import cohort_key
from trainables.spec import Source


def settings() -> dict[str, Any]:
    source = Source(path=Path("somewhere"), sha256="0")
    return {**defaults.SETTINGS, **dict.fromkeys(("base", "train", "validation", "ood"), source)}


def test_sizes_are_those_of_the_study() -> None:
    assert [len(family(name, settings())) for name in NAMES] == [2, 3, 3, 3, 11, 24]


def test_trials_of_a_family_are_distinct_and_can_train_together() -> None:
    for name in NAMES:
        specs = family(name, settings())
        assert len({spec.trial_id for spec in specs}) == len({spec.name for spec in specs}) == len(specs)
        assert len({cohort_key(spec) for spec in specs}) == 1


def test_variants_keep_the_scale_of_their_rank() -> None:
    assert {spec.alpha / spec.rank for spec in family("A1x24", settings())} == {2.0}
