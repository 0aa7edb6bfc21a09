"""Tests which trials of two repeats are told to end otherwise."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.stability import REPEATS, Repeat, changes, launch, repeat, table, verdicts_in
from trainables.errors import InfrastructureError, UserError
from trainables.verdict import Verdict

DONE, PRUNED = Verdict(kind="completed", step=120), Verdict(kind="pruned", step=96, cause="irrelevant_pass")


def test_only_another_kind_of_verdict_is_a_change() -> None:
    later = PRUNED.model_copy(update={"step": 120})
    found = changes({"A1": DONE, "C1": PRUNED, "C2": PRUNED, "D1": DONE}, {"A1": DONE, "C1": later, "C2": DONE})
    assert list(map(str, found)) == ["C2: pruned(irrelevant_pass) @ 96 -> completed @ 120"]


def test_an_experiment_without_trials_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must have trials that ended"):
        verdicts_in(tmp_path)


def test_the_table_has_every_trial_of_both_repeats_and_what_both_conclude() -> None:
    first = Repeat("masks-1", {"A1": DONE, "C1": PRUNED, "D1": DONE}, "Ship A1.")
    second = Repeat("masks-2", {"A1": DONE, "C1": DONE}, "Ship C1.")
    lines = table(first, second).splitlines()
    assert lines[2:5] == [
        "| A1 | completed @ 120 | completed @ 120 |  |",
        "| C1 | pruned(irrelevant_pass) @ 96 | completed @ 120 | yes |",
        "| D1 | completed @ 120 | - |  |",
    ]
    assert lines[6] == "1 of 2 verdicts changed (at most 3 of 33 may); pruned: 1 and 0"
    assert lines[8:] == ["- masks-1: Ship A1.", "- masks-2: Ship C1."]


def test_the_repeats_differ_in_their_masks_alone_and_a_failed_launch_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    environments: list[dict[str, str]] = []

    def started(command: list[str], env: dict[str, str], **_: object) -> object:
        commands.append(command)
        environments.append(env)
        return SimpleNamespace(returncode=130 if "masks-2" in command else 3)

    monkeypatch.setattr("benchmarks.stability.subprocess.run", started)
    first, second, other = REPEATS
    assert launch(tmp_path, first, 3, ("--only", "A1")) == tmp_path / "runs" / first
    with pytest.raises(InfrastructureError, match="ended with 130") as stopped:
        launch(tmp_path, second, 3, ("--only", "A1"))
    assert stopped.value.hint == "the same command continues it"
    with_other_masks = [word for word in commands[1] if word not in ("--set", "dropout=0.100001", second)]
    assert with_other_masks == [word for word in commands[0] if word != first]
    launch(tmp_path, other, 3, ("--only", "A1"))
    assert [word for word in commands[2] if word != other] == [word for word in commands[0] if word != first]
    assert [one.get("ATEN_CPU_CAPABILITY") for one in environments] == [None, None, "avx2"]


@pytest.mark.parametrize("names", ["masks-1", "masks-1,masks-1", "masks-1,masks-3", "masks-1,masks-2,avx2"])
def test_two_repeats_are_compared(names: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--repeats must be two of masks-1, masks-2, avx2"):
        repeat(tmp_path, repeats=names)
