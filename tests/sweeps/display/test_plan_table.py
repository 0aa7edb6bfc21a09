"""Tests the table of a plan: what all trials share is said once, and a trial's name is never cut."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from sweeps.display.plan_table import SHOWN_ROWS, evals_text, matrix, without_shared
from sweeps.planning.forecast import Forecast
from sweeps.stage4 import STUDY
from trainables.mini import BASE_DIRECTORY
from trainables.model.families import family_of
from trainables.model.placement import resolve
from trainables.spec import Placement, Source, TrialSpec

HEADER = ("trial", "id", "rank", "alpha", "evals")


@pytest.mark.parametrize(
    ("trained", "kept", "sentence"),
    [
        ([("a", "1", "4", "8", "5"), ("b", "2", "8", "8", "5")], ("trial", "id", "rank"), "alpha 8, evals 5"),
        ([("a", "1", "4", "8", "5"), ("b", "2", "8", "16", "9")], HEADER, ""),
        ([("a", "1", "4", "8", "5")], ("trial", "id"), "rank 4, alpha 8, evals 5"),
    ],
)
def test_columns_in_which_trained_trials_agree_become_a_sentence(
    trained: list[tuple[str, ...]], kept: tuple[str, ...], sentence: str
) -> None:
    rows, told = without_shared([HEADER, ("A0", "0", "-", "-", "1"), *trained], [True, *[False] * len(trained)])
    assert rows[0] == kept
    assert told == (f"All trained trials: {sentence}." if sentence else "")
    assert [row[0] for row in rows[1:]] == ["A0", *(row[0] for row in trained)]


def test_a_long_name_is_shown_whole_on_eighty_columns() -> None:
    sources = {key: Source(path=Path(key), sha256=key) for key in ("base", "train", "validation", "ood")}
    specs = [
        TrialSpec(name=f"a-long-arm-L{language}-V0-r{rank}-a{2 * rank}-s42", placement=Placement(language=language),
                  rank=rank, alpha=2.0 * rank, steps=rank * 15, quantization=quantization, **sources)
        for language in (2, 8) for rank in (4, 128) for quantization in ("none", "nf4-double")
    ]  # fmt: skip
    family, config = family_of(BASE_DIRECTORY)
    towers = family.towers(config)
    forecasts = [Forecast(one, resolve(one.placement, towers), one.rank / 2, one.rank) for one in specs]
    console = Console(width=80, file=io.StringIO())
    console.print(matrix(STUDY, forecasts, 960))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert [one.name for one in specs if one.name not in shown] == []
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ([(120, 24)], "5 evals a trial, one every 24 steps: "),
        ([(120, 24), (60, 11)], "5 to 6 evals a trial, one every 11 to 24 steps: "),
        ([(10, 24)], "known to within 10 steps."),
        ([], ""),
    ],
)
def test_the_plan_says_within_how_many_steps_an_arm_is_seen_to_leave(shapes: list[tuple[int, int]], said: str) -> None:
    sources = {key: Source(path=Path(key), sha256=key) for key in ("base", "train", "validation", "ood")}
    family, config = family_of(BASE_DIRECTORY)
    towers = family.towers(config)
    specs = [
        TrialSpec(name=f"A{number}", placement=Placement(language=1), steps=steps, eval_every_steps=every, **sources)
        for number, (steps, every) in enumerate(shapes)
    ]
    baseline = TrialSpec(name="A0", **sources)
    forecasts = [
        Forecast(one, resolve(one.placement, towers), 1.0, -(-one.steps // one.eval_every_steps))
        for one in (baseline, *specs)
    ]
    assert said in evals_text(forecasts) and bool(evals_text(forecasts)) == bool(shapes)


def test_a_plan_of_thousands_of_trials_shows_the_first_and_counts_the_others_by_arm() -> None:
    sources = {key: Source(path=Path(key), sha256=key) for key in ("base", "train", "validation", "ood")}
    family, config = family_of(BASE_DIRECTORY)
    towers = family.towers(config)
    specs = [
        TrialSpec(name=f"{arm}-s{seed}", arm=arm, seed=seed, placement=Placement(language=depth), **sources)
        for depth, arm in enumerate(("A1", "A2"), start=1)
        for seed in range(SHOWN_ROWS - 50)
    ]
    forecasts = [Forecast(one, resolve(one.placement, towers), 1.0, 5) for one in specs]
    console = Console(width=80, file=io.StringIO())
    console.print(matrix(STUDY, forecasts, 960))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert sum(line.startswith(("A1-s", "A2-s")) for line in shown.splitlines()) == SHOWN_ROWS
    assert "… and 100 more trials: 100 of A2" in shown and "300 trials, 120 steps" in shown
