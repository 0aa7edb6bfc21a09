"""What is told of stages: where each began, what is left of the ones before, and which is the last good one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from test_stages import saved

from sweeps.course import Course
from sweeps.curriculum import STUDY
from sweeps.curriculum_course import Wish, curriculum
from sweeps.launch import Launch
from sweeps.stage_report import ending, stage_summary
from trainables.record import Measurement, Record, Verdict


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    return curriculum(STUDY, Wish(), Launch(), tmp_path_factory.mktemp("data") / "stages")


def told(course: Course, records: list[Record]) -> str:
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(stage_summary(course, records), soft_wrap=True)
    return console.export_text()


@pytest.fixture
def ran(course: Course, tmp_path: Path) -> Callable[..., list[Record]]:
    """Make the records of stages that ran: each eval's own loss and accuracy, and what is left of earlier ones."""

    def make(*stages: tuple[float, float, Verdict]) -> list[Record]:
        records: list[Record] = []
        for number, (first, last, verdict) in enumerate(stages):
            spec = course.legs[number].spec
            spec = course.from_parent(number, records[-1]) if records else spec
            record = Record(tmp_path / "trials" / f"{spec.name}-{spec.trial_id}")
            record.create(spec)
            for step, loss in ((0, first), (spec.steps, last))[0 if number else 1 :]:
                metrics = {"eval_loss": loss, "token_accuracy": 0.9, "exact_match": 0.5}
                for earlier in range(1, number + 1):
                    metrics |= {f"stage{earlier}_loss": loss, f"stage{earlier}_accuracy": 0.8,
                                f"stage{earlier}_exact_match": 0.4}  # fmt: skip
                record.append(Measurement("eval", step, metrics))
            saved(record.checkpoint(spec.steps), spec)
            record.close(verdict)
            records.append(record)
        return records

    return make


DONE = Verdict(kind="completed", step=80)


def test_the_first_eval_stands_beside_the_parents_last(course: Course, ran: Callable[..., list[Record]]) -> None:
    text = told(course, ran((1.0, 0.5, DONE), (0.52, 0.4, DONE), (0.4, 0.3, DONE)))
    lines = [line.split() for line in text.splitlines()]
    second = next(line for line in lines if line[:2] == ["S2", "L2-V4"])
    assert second[2:] == ["0.00014", "0.500", "0.520", "(+4%)", "0.400", "0.50", "completed"]
    remembered = [line for line in lines if line[:1] == ["S3"]][-1]
    assert remembered == ["S3", "0.80", "(0.40)", "0.80", "(0.40)", "0.90", "(0.50)"]
    assert "All 3 stages ended well" in text
    assert max(map(len, text.split("All 3")[0].splitlines())) <= 80


def test_the_last_good_stage_is_named_where_a_guard_objects(course: Course, ran: Callable[..., list[Record]]) -> None:
    why = Verdict(kind="pruned", step=60, cause="stage1_accuracy", reason="stage1_accuracy 0.65 < 0.82 for 2 evals")
    records = ran((1.0, 0.5, DONE), (0.5, 0.9, why))
    said = ending(course, records)
    assert said.startswith("S2 did not end well (pruned(stage1_accuracy): stage1_accuracy 0.65 < 0.82 for 2 evals)")
    assert f"The last good stage is S1: {records[0].checkpoint(80)}" in said
    assert ending(course, records[1:]) == "No stage ended well; there is nothing to go on from."
