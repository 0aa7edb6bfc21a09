"""Tests the report on stages: what each continues, what is kept of earlier stages, and the last good one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from saved_adapters import left_by, saved

from sweeps.curriculum import STUDY
from sweeps.execution.options import Launch
from sweeps.stages.curriculum import CurriculumInput, curriculum
from sweeps.stages.report import outcome_text, stage_summary
from sweeps.stages.staged_study import StagedStudy, continued
from trainables.checkpoints.lineage import LINEAGE, lineage_of
from trainables.io.files import write_json
from trainables.record import Measurement, Record
from trainables.verdict import Verdict


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> StagedStudy:
    return curriculum(STUDY, CurriculumInput(), Launch(), tmp_path_factory.mktemp("data") / "stages")


def report_text(staged: StagedStudy, records: list[Record]) -> str:
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(stage_summary(staged, records), soft_wrap=True)
    return console.export_text()


@pytest.fixture
def ran(staged: StagedStudy, tmp_path: Path) -> Callable[..., list[Record]]:
    """Write the records of finished stages: each eval's loss and accuracy, and the scores on earlier stages."""

    def make(*stages: tuple[float, float, Verdict]) -> list[Record]:
        records: list[Record] = []
        for number, (first, last, verdict) in enumerate(stages):
            spec = staged.stages[number].spec
            spec = staged.from_parent(number, records[-1]) if records else spec
            record = Record(tmp_path / "trials" / f"{spec.name}-{spec.trial_id}")
            record.create(spec)
            for step, loss in ((0, first), (spec.steps, last))[0 if number else 1 :]:
                metrics = {"eval_loss": loss, "token_accuracy": 0.9, "exact_match": 0.5}
                for earlier in range(1, number + 1):
                    metrics |= {f"stage{earlier}_loss": loss, f"stage{earlier}_accuracy": 0.8,
                                f"stage{earlier}_exact_match": 0.4}  # fmt: skip
                record.append(Measurement("eval", step, metrics))
            left_by(record, spec)
            if spec.init_from:
                write_json(record.directory / LINEAGE, lineage_of(spec, "same, by sha256", 0))
            record.close(verdict)
            records.append(record)
        return records

    return make


DONE = Verdict(kind="completed", step=80)


@pytest.mark.slow
def test_the_first_eval_is_shown_with_the_parents_last(staged: StagedStudy, ran: Callable[..., list[Record]]) -> None:
    text = report_text(staged, ran((1.0, 0.5, DONE), (0.52, 0.4, DONE), (0.4, 0.3, DONE)))
    lines = [line.split() for line in text.splitlines()]
    second = next(line for line in lines if line[:2] == ["S2", "L2-V4"])
    assert second[2:] == ["0.00014", "0.500", "0.520", "(+4%)", "0.400", "0.50", "completed"]
    remembered = [line for line in lines if line[:1] == ["S3"]][-1]
    assert remembered == ["S3", "0.80", "(0.40)", "0.80", "(0.40)", "0.90", "(0.50)"]
    assert "All 3 stages completed" in text
    assert max(map(len, text.split("All 3")[0].splitlines())) <= 80


def test_every_stage_names_what_it_continues(staged: StagedStudy, ran: Callable[..., list[Record]]) -> None:
    records = ran((1.0, 0.5, DONE), (0.5, 0.4, DONE))
    lines = [line.split() for line in report_text(staged, records).splitlines()]
    header = lines.index(["stage", "starts", "from", "sha256", "its", "rate", "own", "rate"])
    parent, own = (record.spec() for record in records)
    assert own.init_from
    sha256 = own.init_from.sha256[:12]
    assert lines[header + 1] == ["S2", f"S1-{parent.trial_id}", "step", "80", sha256, "0.0002", "0.00014"]
    assert lines[header + 2] == [], "the first stage began anew"
    assert "starts from" not in report_text(staged, records[:1])


def test_an_adapter_from_elsewhere_is_named_by_the_end_of_its_path_in_80_columns(
    staged: StagedStudy, tmp_path: Path
) -> None:
    spec = staged.stages[0].spec.model_copy(update={"name": "a_stage_with_quite_a_long_name"})
    given = saved(tmp_path / "[red]somewhere" / "quite" / "deep" / "indeed" / "best", spec)
    record = Record(tmp_path / "trials" / "one")
    record.create(continued(spec, given, "same", "fresh"))
    write_json(record.directory / LINEAGE, lineage_of(record.spec(), "unknown", 0))
    text = report_text(staged, [record])
    line = next(line for line in text.splitlines() if "best" in line)
    assert line.split()[-2:] == ["unknown", "0.0002"]
    assert "…" in line and "/quite/deep/indeed/best" in line and "…h_quite_a_long_name"[-11:] in line
    assert max(map(len, text.split("No stage")[0].splitlines())) <= 80


def test_the_last_good_stage_is_named_where_a_guard_objects(
    staged: StagedStudy, ran: Callable[..., list[Record]]
) -> None:
    why = Verdict(kind="pruned", step=60, cause="stage1_accuracy", reason="stage1_accuracy 0.65 < 0.82 for 2 evals")
    records = ran((1.0, 0.5, DONE), (0.5, 0.9, why))
    output = outcome_text(staged, records)
    assert output.startswith(
        "Stage S2 cannot be continued (pruned(stage1_accuracy): stage1_accuracy 0.65 < 0.82 for 2 evals)"
    )
    assert f"The last stage that can is S1: {records[0].checkpoint(80)}" in output
    assert outcome_text(staged, records[1:]) == "No stage completed with a usable adapter; there is none to continue."
