"""Tests the summary of a launch: the frontier in words, with its caveats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from trial_records import running_record

from sweeps.display.summary import summary
from sweeps.stage4 import STUDY
from trainables.io.files import write_json
from trainables.measurement import GroupFall
from trainables.record import Measurement, Record
from trainables.spec import Quantization, TrialSpec
from trainables.verdict import Verdict, VerdictKind

Arm = Callable[..., Record]


@pytest.fixture
def finished(tmp_path: Path) -> Arm:
    """Write a finished trial: the baseline with its eval at step 0, an arm with its best checkpoint of step 30."""

    def leave(
        name: str,
        fit: float,
        keeps: float = 1.0,
        quantization: Quantization = "nf4-double",
        kind: VerdictKind = "completed",
        loss: float = 1.5,
    ) -> Record:
        layers = {"A": (0, 0), "B": (0, 2), "C": (2, 2)}[name[0]]
        planned = running_record(tmp_path, name, *layers, steps=()).spec()
        spec = TrialSpec.model_validate({**planned.model_dump(), "quantization": quantization})
        record = Record(tmp_path / "trials" / f"{name}-{spec.trial_id}")
        record.create(spec)
        metrics = {"exact_match": fit, "irrelevant_pass": keeps, "eval_loss": loss}
        record.append(Measurement("eval", 0 if spec.placement.is_baseline else 30, metrics))
        if not spec.placement.is_baseline:
            with record.saving("best") as directory:
                write_json(directory / "provenance.json", {"step": 30, "metrics": metrics})
        record.close(Verdict(kind=kind, step=60))
        return record

    return leave


def frontier(*records: Record) -> str:
    return summary(STUDY, list(records), "stage4").splitlines()[2]


def test_an_arm_that_gained_nothing_is_not_on_the_frontier(finished: Arm) -> None:
    """It keeps all generality, so dominance alone would name it."""
    output = frontier(finished("A0", 0.04), finished("B1", 0.04, 1.0), finished("C1", 0.6, 0.9))
    assert output == (
        "Frontier of task fit and generality (1 of 2 trials that meet the constraint beat the baseline): "
        "C1 answers 60% exactly and keeps 90% irrelevant-image pass (step 30)."
    )


def test_the_least_gain_counts(finished: Arm) -> None:
    assert "B1 answers 4% exactly" in frontier(finished("A0", 0.04), finished("B1", 0.04 + 1e-9))


def test_where_no_arm_gained_that_is_said_with_the_numbers(finished: Arm) -> None:
    output = frontier(finished("A0", 0.04), finished("B1", 0.01), finished("C1", 0.04))
    assert output == (
        "No arm that meets the constraint beats the baseline: of 2 such trials C1 comes closest, with "
        "4.0% exact answers (step 30) against 4.0% of the baseline. Try longer training or a higher learning rate."
    )


def test_where_no_answer_is_exact_the_loss_is_the_fit_as_in_the_decision(finished: Arm) -> None:
    baseline, better = finished("A0", 0.0), finished("C1", 0.0, loss=1.2)
    assert frontier(baseline, finished("B1", 0.0, loss=1.4), better) == (
        "No answer is exact in any trial, so the fit is the eval loss: it fell most in C1 (step 30), by 0.300 nats a "
        "token."
    )
    stopped = finished("C2", 0.1, kind="pruned")  # one exact answer makes exact answers the fit
    assert "No arm that meets the constraint beats" in frontier(baseline, better, stopped)


def test_where_nothing_was_learned_at_all_that_is_said(finished: Arm) -> None:
    assert "no eval loss is below the baseline's: C1 (step 30)" in frontier(finished("A0", 0.0), finished("C1", 0.0))


def test_a_gain_is_over_the_baseline_of_the_same_quantization(finished: Arm) -> None:
    """Compared with the other baseline, C1 would have no gain and B1 would have one."""
    baselines = finished("A0-none", 0.5, quantization="none"), finished("A0-nf4", 0.1, quantization="nf4")
    output = frontier(*baselines, finished("B1", 0.4, quantization="none"), finished("C1", 0.3, quantization="nf4"))
    assert "1 of 2 trials that meet the constraint" in output and "C1 answers 30%" in output and "B1" not in output


def test_what_was_stopped_is_no_gain(finished: Arm) -> None:
    output = frontier(finished("A0", 0.04), finished("C1", 0.9, kind="pruned"))
    assert output == "No completed arm has an eval that meets the constraint: the frontier is empty."


def test_a_baseline_that_broke_leaves_an_empty_frontier(finished: Arm) -> None:
    broken = finished("A0", 0.04, kind="invalid")
    (broken.directory / "metrics.jsonl").unlink()
    assert "the frontier is empty" in frontier(broken)


def test_criteria_degraded_and_forced_trials_are_shown(finished: Arm) -> None:
    records = [finished("A0", 0.04), *(finished(f"C{number}", 0.6 + number / 100) for number in range(6))]
    for number, record in enumerate(records[1:]):
        spiked = [{"check": "gradient_spikes"}] if number == 1 else []
        met = {"minimum": {"met": True}, "optimal": {"met": number > 1}}
        write_json(record.directory / "labels.json", {**met, "degraded": spiked})
        write_json(record.directory / "overridden.json", [{"check": "coverage"}, {"check": "usable_rate"}])
    assert summary(STUDY, records, "stage4").splitlines()[3:6] == [
        "Success criteria met: 4 optimal, 2 minimum.",
        "Degraded: C1 (gradient_spikes).",
        "Started with --force: C0, C1, C2, C3 and 2 more (coverage, usable_rate).",
    ]


def test_trials_that_lost_a_kind_of_picture_share_a_line(finished: Arm) -> None:
    records = [finished("A0", 0.0), *(finished(f"C{number}", 0.6) for number in range(1, 7))]
    for number, record in enumerate(records[1:]):
        rows = 6 if number else 24  # a guard asked one trial more rows
        fall = GroupFall("irrelevant_pass", "door" if number < 5 else "boat", number % 2, rows, rows)
        last = record.evals()[-1]
        record.append(replace(last, step=60, falls=(fall,)))
    said = summary(STUDY, records, "stage4")
    assert [line for line in said.splitlines() if "was lost" in line] == [
        "Warning: a kind of picture was lost, irrelevant_pass on `door`: C1 0 of 24 (baseline 24), "
        "C2 1 of 6 (baseline 6), C3 0 of 6 (baseline 6), C4 1 of 6 (baseline 6) and 1 more.",
        "Warning: a kind of picture was lost, irrelevant_pass on `boat`: C6 1 of 6 (baseline 6).",
    ]


def test_trials_without_labels_are_not_mentioned(finished: Arm) -> None:
    assert summary(STUDY, [finished("A0", 0.04)], "stage4").splitlines()[3:5] == ["", "next:"]


@pytest.mark.parametrize("uri", ["http://me:secret@127.0.0.1:5000", "postgresql://me:secret@db/mlflow"])
def test_a_password_in_the_address_of_the_store_is_not_printed(uri: str, finished: Arm) -> None:
    text = summary(STUDY, [finished("A0", 0.1), finished("C2", 0.5)], "stage4", uri)
    assert "secret" not in text
    assert "    footprint pareto --experiment stage4  # with MLFLOW_TRACKING_URI set" in text
    assert "--tracking-uri http://host:5000" in summary(STUDY, [finished("A0", 0.1)], "stage4", "http://host:5000")
