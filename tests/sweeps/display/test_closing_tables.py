"""Tests the closing tables, success criteria and one arm on several bases, from records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from sweeps.display.closing_tables import TABLES, closing_tables, criteria_table, quantization_table
from sweeps.quantization import STUDY
from sweeps.stage4 import STUDY as STAGE4
from trainables.record import Measurement, Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict

Make = Callable[..., Record]


def lines_of(shown: RenderableType) -> list[list[str]]:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(shown)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    return [line.split() for line in text.splitlines()]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    sources = {key: Source(path=tmp_path / key, sha256=key) for key in ("base", "train", "validation", "ood")}

    def record(name: str, loss: float, accuracy: float, quantization: str = "none", base_mb: float = 8.0) -> Record:
        placement = Placement() if name == "A0" else Placement(language=2, vision=4)
        spec = TrialSpec(name=name, placement=placement, quantization=quantization, **sources)  # type: ignore[arg-type]
        made = Record(tmp_path / f"{name}-{spec.trial_id}")
        made.create(spec)
        step = 0 if name == "A0" else 10
        cost = {"gradient_norm": 0.5, "train_seconds": 5.0, "base_memory_mb": base_mb}
        made.append(Measurement("train", step, cost))
        metrics = {"train_loss": loss, "eval_loss": loss, "token_accuracy": accuracy, "exact_match": accuracy,
                   "irrelevant_pass": 1.0, "blindness": 0.0}  # fmt: skip
        made.append(Measurement("eval", step, metrics))
        made.close(Verdict(kind="completed", step=step))
        return made

    return record


def test_every_criterion_shows_its_value_and_whether_it_is_met(make: Make) -> None:
    records = [make("A0", 2.7, 0.45), make("failing", 2.68, 0.46), make("fix1", 2.1, 0.55), make("fix2", 1.5, 0.7)]
    lines = {line[0]: line[1:] for line in lines_of(criteria_table(records)) if line}
    assert lines["failing"] == ["0.02", "✗", "0.02", "✗", "+1.0", "✗", "0.5", "✓", "14.6", "✗", "no", "no"]
    assert lines["fix1"] == ["0.6", "✓", "0.6", "✓", "+10.0", "✓", "0.5", "✓", "8.17", "✗", "met", "no"]
    assert lines["fix2"][-2:] == ["met", "met"]
    assert "A0" not in lines


def test_an_arm_is_paired_with_itself_on_the_unquantized_base(make: Make) -> None:
    records = [
        make("A0", 2.0, 0.5), make("C2", 1.0, 0.8),
        make("A0", 2.1, 0.5, "nf4", 2.2), make("C2", 1.25, 0.7, "nf4", 2.2),
    ]  # fmt: skip
    lines = {tuple(line[:2]): line[2:] for line in lines_of(quantization_table(records)) if line}
    assert lines["C2", "none"] == ["8.00", "2.000", "1.000", "+0.000", "0.80", "1.00", "0.50", "completed"]
    assert lines["C2", "nf4"] == ["2.20", "2.100", "1.250", "+0.250", "0.70", "1.00", "0.50", "completed"]


def test_trials_of_different_seeds_are_not_paired(make: Make, tmp_path: Path) -> None:
    records = [make("A0", 2.1, 0.5, "nf4"), make("C2", 1.25, 0.7, "nf4")]
    lines = {tuple(line[:2]): line for line in lines_of(quantization_table(records)) if line}
    assert lines["C2", "nf4"][5] == "-"


def test_a_study_shows_the_tables_it_names_and_no_other(make: Make) -> None:
    records = [make("A0", 2.7, 0.45), make("fix1", 2.1, 0.55)]
    assert closing_tables(STAGE4, records) == []
    assert len(closing_tables(STUDY, records)) == 1
    assert len(closing_tables(replace(STUDY, tables=tuple(TABLES)), records)) == len(TABLES)
