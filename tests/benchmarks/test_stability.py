"""Tests which trials of two repeats are told to end otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.stability import changes, verdicts_in
from trainables.errors import UserError
from trainables.record import Verdict

DONE, PRUNED = Verdict(kind="completed", step=120), Verdict(kind="pruned", step=96, cause="irrelevant_pass")


def test_only_another_kind_of_verdict_is_a_change() -> None:
    later = PRUNED.model_copy(update={"step": 120})
    found = changes({"A1": DONE, "C1": PRUNED, "C2": PRUNED, "D1": DONE}, {"A1": DONE, "C1": later, "C2": DONE})
    assert list(map(str, found)) == ["C2: pruned(irrelevant_pass) @ 96 -> completed @ 120"]


def test_an_experiment_without_trials_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must have trials that ended"):
        verdicts_in(tmp_path)
