"""Tests the page and the two PDFs of a trial, written from its record."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from markdown_it import MarkdownIt

from analysis.cli import main
from analysis.trial_report.loss_curves import eval_plot, training_plot
from analysis.trial_report.page import page_of, write_results
from analysis.trial_report.results import read_results
from trainables.errors import UserError
from trainables.io.files import write_json
from trainables.record import Measurement, Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict

LOSSES = {30: 1.2, 60: 0.7, 90: 0.8}
BASE_LOSS = 1.5


def spec_of(root: Path, name: str, **changes: Any) -> TrialSpec:
    sources = {key: Source(path=root / f"{key}.jsonl", sha256=key * 12) for key in ("train", "validation", "ood")}
    base = Source(path=root / "Qwen2.5-Coder-7B-Instruct", sha256="ba5e")
    values: dict[str, Any] = {"name": name, "base": base, "steps": 90, **sources}
    return TrialSpec(**(values | changes))


def metrics(loss: float) -> dict[str, float]:
    return {"eval_loss": loss, "train_loss": loss - 0.1, "exact_match": 0.5, "irrelevant_pass": 0.9}


def record_of(root: Path, spec: TrialSpec, losses: dict[int, float]) -> Record:
    record = Record(root / "runs" / "stage4" / "trials" / f"{spec.name}-{spec.trial_id}")
    record.create(spec)
    tower = {"modules": ["model.layers.7.self_attn.q_proj"], "parameters": 1536}
    write_json(record.directory / "placement.json", {"language": tower, "vision": {"modules": [], "parameters": 0}})
    for step, loss in losses.items():
        record.append(Measurement("train", step, {"step_loss": loss + 0.05, "train_seconds": 61.0}))
        record.append(Measurement("eval", step, metrics(loss)))
        sample = {"kind": "validation", "prompt": "list | all <files>", "answer": "ls\n-la", "expected": "无关图片"}
        record.write_samples(step, [sample] * 9)
    return record


@pytest.fixture
def trial(tmp_path: Path) -> Record:
    """A trial whose best eval is not its last, and its baseline."""
    spec = spec_of(tmp_path, "C2", placement=Placement(language=2, vision=0))
    baseline = record_of(tmp_path, spec.baseline(), {0: BASE_LOSS})
    baseline.close(Verdict(kind="completed", step=0))
    record = record_of(tmp_path, spec, LOSSES)
    with record.saving("best") as directory:
        kept = {"step": 60, "metrics": metrics(0.7), "method": "QLoRA", "base_model": "Qwen2.5-Coder-7B-Instruct",
                "data": {"train": {"rows": 1388}}, "source": {"commit": "abc123", "dirty": True}}  # fmt: skip
        write_json(directory / "provenance.json", kept)
    record.close(Verdict(kind="pruned", step=90, cause="irrelevant_pass", reason="irrelevant_pass 0.71 < 0.80"))
    return record


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def command(*arguments: str) -> tuple[int, str, str]:
        fixed = ["--storage", str(tmp_path / "runs"), "--out", str(tmp_path / "docs")]
        fixed += ["--tracking-uri", f"sqlite:///{tmp_path}/nowhere.db"]
        with pytest.raises(SystemExit) as ended:
            main(["results", *fixed, *arguments])
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return command


def test_the_command_writes_a_page_and_two_pdfs(trial: Record, run, tmp_path: Path) -> None:
    code, out, _ = run("--experiment", "stage4")
    assert code == 0
    names = ("stage4_C2_results.md", "images/stage4_C2_training_loss.pdf", "images/stage4_C2_eval_loss.pdf")
    assert out.split() == [str(tmp_path / "docs" / name) for name in names]
    page, *pictures = [(tmp_path / "docs" / name).read_bytes() for name in names]
    assert all(picture.startswith(b"%PDF-") for picture in pictures)
    text = page.decode()
    assert all(f"]({name})" in text for name in names[1:]), "links are relative to the page"
    assert not (tmp_path / "nowhere.db").exists(), "a reader makes no store"
    run("--experiment", "stage4", "--trial", trial.name)
    assert [(tmp_path / "docs" / name).read_bytes() for name in names] == [page, *pictures], "the same bytes again"


def test_the_page_shows_the_numbers_of_the_record(trial: Record, tmp_path: Path) -> None:
    (results,) = read_results(tmp_path / "runs", "stage4", "C2")
    page = page_of(results, "run-7", {})
    for output in (
        "**pruned(irrelevant_pass)**: irrelevant_pass 0.71 < 0.80",
        "The kept adapter is that of step 60, an eval before the last one, at 90: eval loss from 1.5000 to 0.7000",
        "| Final eval loss | 0.8000 |",
        "| Final training loss (mean of the last interval, dropout on) | 0.8500 |",
        "| Steps | 90/90 |",
        "| train | 1388 |",
        "| out-of-distribution | not recorded |",
        "| eval_loss | lower | 1.5000 | 0.7000 | 0.8000 |",
        "| **60** | 0.6000 | 0.7000 |",
        "QLoRA, base `Qwen2.5-Coder-7B-Instruct`",
        "language: 1 modules, 1,536 trained parameters",
        "run `run-7` of experiment `stage4`",
        "commit abc123 with uncommitted changes",
        "training 61 s",
        "One trial, one seed",
    ):
        assert output in page, output


def test_a_cell_cannot_break_its_table(trial: Record, tmp_path: Path) -> None:
    page = page_of(read_results(tmp_path / "runs", "stage4", "C2")[0], None, {})
    rows = [line for line in page.splitlines() if "无关图片" in line]
    assert rows[0] == r"| validation | list \| all &lt;files> | ls -la | 无关图片 |"
    assert len(rows) == 6
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table


def test_the_page_has_every_part_in_order(trial: Record, tmp_path: Path) -> None:
    page = page_of(read_results(tmp_path / "runs", "stage4", "C2")[0], None, {"eval": Path("images/loss.pdf")})
    assert re.findall(r"^#+ .*", page, re.MULTILINE) == [
        "# C2: training results", "## What was trained", "## Data", "## Settings", "## Compared with the base model",
        "## All evals", "## Sample answers", "## Files and provenance", "## What is not known",
    ]  # fmt: skip
    assert "- [eval loss](images/loss.pdf)\n" in page
    assert "{{" not in page and "{%" not in page and "\n\n\n" not in page


HOSTILE = "<script src=x>"  # a name must not hold `/`


def test_a_name_or_a_reason_cannot_become_html(tmp_path: Path) -> None:
    name = f"C2`{HOSTILE}"
    spec = spec_of(tmp_path, name, arm="C2", placement=Placement(language=2, vision=0))
    record_of(tmp_path, spec.baseline(), {0: BASE_LOSS}).close(Verdict(kind="completed", step=0))
    record = Record(tmp_path / "runs" / "stage4" / "trials" / "hostile")
    kept = record_of(tmp_path, spec.model_copy(update={"name": "C2"}), LOSSES)
    kept.directory.rename(record.directory)
    (record.directory / "spec.json").write_text(spec.model_dump_json())
    labels = {"degraded": [{"check": "gradient_spikes", "step": 30, "evidence": HOSTILE}]}
    write_json(record.directory / "labels.json", labels)
    record.close(Verdict(kind="failed", step=90, cause="OSError", reason=HOSTILE))
    (results,) = read_results(tmp_path / "runs", "stage4", name)
    page = page_of(replace(results, experiment=f"`{HOSTILE}"), "run-7", {})
    rendered = MarkdownIt("commonmark").enable("table").render(page)
    assert page.startswith("# C2`&lt;script src=x>: training results")
    assert "experiment `` `<script src=x> ``" in page, "a code span shows it as it is written"
    assert "<script" not in rendered and rendered.count("&lt;script src=x&gt;") == 4


def test_without_an_admissible_eval_the_page_says_that_no_adapter_was_kept(trial: Record, tmp_path: Path) -> None:
    import shutil

    shutil.rmtree(trial.directory / "best")
    (results,) = read_results(tmp_path / "runs", "stage4", None)
    assert "No adapter was kept" in page_of(results, None, {})
    assert write_results(results, tmp_path / "docs", None)[0].exists()


@pytest.fixture
def text_trial(tmp_path: Path) -> Record:
    """A text trial that kept no adapter."""
    spec = spec_of(tmp_path, "L2", placement=Placement(language=2, vision=0), quantization="nf4-double")
    record_of(tmp_path, spec.baseline(), {0: BASE_LOSS}).close(Verdict(kind="completed", step=0))
    record = record_of(tmp_path, spec, LOSSES)
    rates = {"text_retention": 0.6, "command_only_rate": 0.75, "dangerous_rate": 0.125}
    record.append(Measurement("eval", 90, {"eval_loss": 0.8, "train_loss": 0.7, **rates}))
    record.close(Verdict(kind="completed", step=90))
    return record


def test_the_page_of_a_text_trial_shows_its_evals_method_and_towers(text_trial: Record, tmp_path: Path) -> None:
    page = page_of(read_results(tmp_path / "runs", "stage4", "L2")[0], None, {})
    assert "| step | train_loss | eval_loss | text_retention | command_only_rate | dangerous_rate |" in page
    assert "| 90 | 0.7000 | 0.8000 | 0.6000 | 0.7500 | 0.1250 |" in page
    assert "- QLoRA, base `Qwen2.5-Coder-7B-Instruct`" in page
    assert "- LoRA on the last 2 language layers\n" in page and "vision blocks" not in page


def test_without_an_adapter_the_page_names_no_command_to_check_it(text_trial: Record, tmp_path: Path) -> None:
    page = page_of(read_results(tmp_path / "runs", "stage4", "L2")[0], None, {})
    assert "- adapter: none was kept\n" in page and "trainables.verify" not in page
    assert "code, versions and hardware are recorded with an adapter: unknown" in page
    assert "| train | not recorded |" in page


def test_without_an_adapter_the_page_uses_the_launch_and_another_trial(text_trial: Record, tmp_path: Path) -> None:
    experiment, spec = tmp_path / "runs" / "stage4", text_trial.spec()
    write_json(experiment / "study.json", {"train": spec.train.sha256, "validation": "of other rows"})
    write_json(experiment / "preflight.json", {"data": {"train": {"rows": 600}, "validation": {"rows": 64}}})
    other = record_of(tmp_path, spec_of(tmp_path, "L4", placement=Placement(language=4, vision=0)), LOSSES)
    data = {"ood": {"rows": 80, "sha256": spec.ood.sha256}, "validation": {"rows": 9, "sha256": "others"}}
    made = {"versions": {"torch": "2.13"}, "source": {"commit": "abc123"}, "hardware": "two cores", "trial": "L4"}
    with other.saving("best") as directory:
        write_json(directory / "provenance.json", {"data": data, **made})
    page = page_of(read_results(tmp_path / "runs", "stage4", "L2")[0], None, {})
    for output in ("| train | 600 |", "| validation | not recorded |", "| out-of-distribution | 80 |",
                 "these are from `L4`, which kept one:", "commit abc123", "torch 2.13", "on two cores"):  # fmt: skip
        assert output in page, output


def test_the_curves_are_the_measurements(trial: Record) -> None:
    measured = trial.measurements()
    assert training_plot("t", measured).curves[0].points == tuple(
        (s, pytest.approx(v + 0.05)) for s, v in LOSSES.items()
    )
    plot = eval_plot("t", measured, BASE_LOSS, 60)
    assert (plot.curves[0].points, plot.baseline, plot.best_step) == (tuple(LOSSES.items()), BASE_LOSS, 60)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda record: (record.directory / "verdict.json").unlink(), "verdict.json is not there"),
        (lambda record: (record.directory / "metrics.jsonl").unlink(), "metrics.jsonl holds none"),
        (
            lambda record: (record.directory / "samples" / "step-60.jsonl").unlink(),
            "samples/step-60.jsonl must be there",
        ),
        (lambda record: rmtree(next(record.directory.parent.glob("A0-*"))), "its baseline must have been"),
    ],
)
def test_what_is_missing_is_named(spoil: Callable[[Record], None], expected: str, trial: Record, run) -> None:
    spoil(trial)
    code, _, error = run("--experiment", "stage4", "--trial", "C2")
    assert code == 2
    assert expected in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--experiment", "stage"), "did you mean `stage4`?"),
        (("--experiment", "stage4", "--trial", "C3"), "did you mean `C2`?"),
        (("--experiment", "stage4", "--trial", "A0-nf4-double"), "--trial must be a trained trial"),
    ],
)
def test_the_hint_on_a_wrong_name_is_the_nearest(arguments: tuple[str, ...], expected: str, trial: Record, run) -> None:
    code, _, error = run(*arguments)
    assert code == 2
    assert expected in error


def test_an_ambiguous_trial_name_is_refused(trial: Record, tmp_path: Path) -> None:
    record_of(tmp_path, spec_of(tmp_path, "C2", placement=Placement(language=2), seed=1), LOSSES)
    with pytest.raises(UserError, match="--trial must name one trial"):
        read_results(tmp_path / "runs", "stage4", "C2")
