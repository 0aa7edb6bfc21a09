"""Tests that copies and picks are measured once, on the right rows, and are read from MLflow as candidates."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from analysis.candidates import Candidate, candidates_of, holdout_command
from analysis.decision.finalists import paired
from analysis.logged_measurements import read_logged
from analysis.placements import placements_of
from sweeps.display.summary import pareto_command
from sweeps.execution.holdout_file import check_holdout, keep_holdout, planned_holdout
from sweeps.execution.later_evals import Counts, ended_experiment
from sweeps.execution.options import Launch
from sweeps.finalists import main as finalists_main
from sweeps.holdout import main as holdout_main
from sweeps.launch import check_plan, run_plan
from sweeps.planning.active_guards import ActiveGuards
from sweeps.planning.forecast import forecast
from sweeps.planning.holdout import Holdout, gather_holdout
from sweeps.planning.plan import Plan
from sweeps.planning.preflight import Preflight
from sweeps.planning.sources import Sources, gather
from sweeps.planning.space import Axes, expand
from sweeps.rescale import main as rescale_main
from sweeps.stage4 import STUDY
from trainables.derived.candidate_name import parse_candidate
from trainables.errors import UserError
from trainables.health.checks import Finding
from trainables.measurement import Measurement
from trainables.mini import datasets
from trainables.probes.reserve import CORE_ROWS
from trainables.record import DERIVED, FINALISTS, HOLDOUT, Record
from trainables.record_check import check_record
from trainables.spec import Placement, TrialSpec

STEPS = (2, 4, 6)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a few rows each, with a holdout beside them as the miniature has it."""
    return few_rows(tmp_path_factory.mktemp("data") / "mini", irrelevant_rows=3)


def few_rows(target: Path, irrelevant_rows: int, held_out: int = 5) -> Path:
    files = datasets.write(target, seed=0)
    directory = files.train.parent
    lines = {path: path.read_text("utf-8").splitlines(keepends=True) for path in vars(files).values()}
    kinds = {
        kind: [one for one in lines[files.ood] if f'"{kind}"' in one] for kind in ("irrelevant", "caption", "text")
    }
    for name, cut in {
        "train.jsonl": lines[files.train][:12], "validation.jsonl": lines[files.validation][:3],
        "test.jsonl": lines[files.test][:4],
        "ood.jsonl": [*kinds["irrelevant"][:irrelevant_rows], *kinds["caption"][:2], *kinds["text"][:2]],
        "ood-test.jsonl": [*kinds["irrelevant"][-held_out:], *kinds["caption"][2:4], *kinds["text"][2:5]],
    }.items():  # fmt: skip
        (directory / name).write_text("".join(cut), "utf-8")
    return directory


@pytest.fixture(scope="module")
def sources(rows: Path) -> Sources:
    return gather(None, rows / "train.jsonl", rows / "validation.jsonl", rows / "ood.jsonl", rows)


def gathered(rows: Path, sources: Sources, **changed: Path | None) -> Holdout | None:
    files: dict[str, Path | None] = {"test": rows / "test.jsonl", "ood_test": rows / "ood-test.jsonl", **changed}
    return gather_holdout(files["test"], files["ood_test"], sources, True)


# ---------------------------------------------------------------- the holdout
def test_the_miniature_has_its_holdout_beside_its_rows(rows: Path, sources: Sources) -> None:
    assert gather_holdout(None, None, sources, False) == gathered(rows, sources)
    assert gather_holdout(None, None, sources, True) is None


def test_a_holdout_that_holds_nothing_out_is_refused(rows: Path, sources: Sources) -> None:
    with pytest.raises(UserError, match="--test and --ood-test must be given together"):
        gathered(rows, sources, ood_test=None)
    for other in ("train", "validation"):
        with pytest.raises(UserError, match=f"test rows must not be in {other}, but "):
            gathered(rows, sources, test=rows / f"{other}.jsonl")
    with pytest.raises(UserError, match="must not be in --ood too, but 7 are"):
        gathered(rows, sources, ood_test=rows / "ood.jsonl")


def test_a_holdout_is_no_part_of_a_trial_and_is_never_exchanged(rows: Path, sources: Sources, tmp_path: Path) -> None:
    found = gathered(rows, sources)
    assert found is not None
    keep_holdout(tmp_path, None)
    check_holdout(tmp_path, found)  # may be added later
    keep_holdout(tmp_path, found)
    check_holdout(tmp_path, found)
    check_holdout(tmp_path, None)
    other = Holdout(found.ood_test, found.ood_test)
    with pytest.raises(UserError, match="was begun with another --test"):
        check_holdout(tmp_path, other)


def test_a_launch_that_names_no_holdout_has_the_kept_one(rows: Path, sources: Sources, tmp_path: Path) -> None:
    study = replace(STUDY, name="few")
    planned = Plan(sources, [], Preflight({}, ()), ActiveGuards(study))
    beside, launch = gathered(rows, sources), Launch(storage=tmp_path)
    assert beside is not None and planned_holdout(planned, launch) == beside
    kept = Holdout(beside.ood_test, beside.test)
    keep_holdout(tmp_path / "few", kept)
    assert planned_holdout(planned, launch) == kept
    named = replace(launch, test=rows / "test.jsonl", ood_test=rows / "ood-test.jsonl")
    assert planned_holdout(planned, named) == beside


def test_another_holdout_is_refused_before_a_trial_is_begun(
    rows: Path, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.launch.run_records", lambda *_: pytest.fail("trials ran"))
    launch = Launch(storage=tmp_path, console=Console(quiet=True), test=rows / "test.jsonl",
                    ood_test=rows / "ood-test.jsonl")  # fmt: skip
    specs = expand(STUDY, Axes(only=("C2",)), sources)
    planned = Plan(sources, forecast(specs, sources.train_rows), Preflight({}, ()), ActiveGuards(STUDY))
    beside = gathered(rows, sources)
    assert beside is not None
    keep_holdout(tmp_path / "stage4", Holdout(beside.ood_test, beside.test))
    for refusing in (run_plan, check_plan):
        with pytest.raises(UserError, match="was begun with another --test"):
            refusing(planned, launch)
    assert {path.name for path in (tmp_path / "stage4").iterdir()} <= {
        "holdout.json",
        "study.json",
        "lease.json",
        "lock",
    }


# ---------------------------------------------------------------- measured after the end
@pytest.fixture(scope="module")
def trained(rows: Path, sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = train_few(tmp_path_factory.mktemp("runs"), sources, steps=6)
    keep_holdout(storage / "few", gathered(rows, sources))
    return storage


def train_few(storage: Path, sources: Sources, steps: int) -> Path:
    """Write an experiment of a baseline and one trial, without Ray."""
    import torch

    from trainables.constraint import BestConstraint
    from trainables.engine import Engine
    from trainables.probes.captions import captions_in
    from trainables.probes.probe import Baseline
    from trainables.training.trial import open_trial

    torch.set_num_threads(1)
    spec = TrialSpec(
        name="C2", arm="C2", **sources.as_settings(), placement=Placement(language=2, vision=2), rank=4, alpha=8.0,
        quantization="none", learning_rate=5e-3, vision_learning_rate=1e-2, steps=steps, batch_rows=3,
        eval_every_steps=2,
    )  # fmt: skip
    engine, known = Engine.load(spec, torch.device("cpu")), None
    for one in (spec.baseline(), spec):
        record = Record(storage / "few" / "trials" / f"{one.name}-{one.trial_id}")
        record.create(one)
        trial = open_trial(engine, one, record, known, (), BestConstraint(1.0, 1.0))
        while trial.advance(lambda: False) is None:
            pass
        trial.remove()
        measured = record.evals()[0]
        known = known or Baseline(measured.metrics, captions_in(record.samples(0)), measured.counts)
    return storage


@pytest.fixture
def experiment(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs")) / "few"


def ended(main: Callable[..., None], *values: object, **named: object) -> int:
    import typer

    with pytest.raises(typer.Exit) as exit_:
        main(*values, **named)
    return exit_.value.exit_code


def trial_in(experiment: Path) -> Record:
    return Record(next((experiment / "trials").glob("C2-*")))


@pytest.mark.slow
def test_copies_are_measured_once_and_are_candidates(
    experiment: Path, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, uri = trial_in(experiment), f"sqlite:///{database}"
    place = {"storage": experiment.parent, "tracking_uri": uri}
    assert ended(rescale_main, "few", scales="0.5", **place) == 0
    found = record.later_evals(DERIVED)
    assert sorted((one.step, one.scale) for one in found) == [*((step, "0.5") for step in STEPS), (6, "average")]
    assert all(
        one.rows["exact_match"].values.keys() == record.evals()[0].rows["exact_match"].values.keys() for one in found
    )
    check_record(record)
    before = (record.directory / DERIVED).read_bytes()
    assert ended(rescale_main, "few", scales="0.5", **place) == 0
    assert "4 copies of 1 trials, 4 of them measured before" in capsys.readouterr().out
    assert (record.directory / DERIVED).read_bytes() == before
    (record.directory / DERIVED).write_bytes(before[:-9])  # a torn line is measured again
    assert ended(rescale_main, "few", scales="0.5", **place) == 0
    assert len(record.later_evals(DERIVED)) == 4

    logged = read_logged("few", uri)
    arm = next(one for one in placements_of(logged.runs, ()) if one.arm == "C2")
    candidates = candidates_of(arm, logged.trained)
    names = [one.name for one in candidates]
    assert {"C2 @ 2", "C2 @ 4 x 0.5", "C2 @ 6 average"} <= {*names} and len(names) == 7
    assert [one.is_derived for one in candidates].count(True) == 4


@pytest.mark.slow
def test_picks_are_measured_on_the_holdout_alone(
    experiment: Path, database: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, uri = trial_in(experiment), f"sqlite:///{database}"
    place = {"storage": experiment.parent, "tracking_uri": uri}
    picks = ["C2 @ 6", "C2 @ 4 x 0.5"]
    assert ended(holdout_main, "few", picks, **place) == 0
    found = record.later_evals(HOLDOUT)
    assert sorted((one.step, one.scale) for one in found) == [(4, "0.5"), (6, "1")]
    asked = {line.split('"id": "')[1].split('"')[0] for line in (rows / "test.jsonl").read_text("utf-8").splitlines()}
    assert {*found[0].rows["exact_match"].values} == asked
    assert len(found[0].rows["irrelevant_pass"].values) == 5
    assert ended(holdout_main, "few", picks, **place) == 0
    assert "2 adapters of 2 picks, 2 measured before" in capsys.readouterr().out
    logged = read_logged("few", uri)
    read = {run.arm: logged.held_out[run.run_id] for run in logged.runs.trials}
    assert sorted(one.line() for one in read["C2"]) == sorted(one.line() for one in found)
    assert [(one.step, one.scale) for one in read["A0"]] == [(0, "1")]
    assert all(isinstance(one, Measurement) for one in read["A0"])
    assert [one.step for one in trial_in(experiment).evals()] == [*STEPS]
    check_record(record)


@pytest.mark.slow
def test_finalists_are_asked_every_irrelevant_row(
    tmp_path: Path, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = few_rows(tmp_path / "data" / "mini", irrelevant_rows=CORE_ROWS + 4, held_out=CORE_ROWS + 2)
    sources = gather(None, wide / "train.jsonl", wide / "validation.jsonl", wide / "ood.jsonl", wide)
    storage = train_few(tmp_path / "runs", sources, steps=2)
    keep_holdout(storage / "few", gathered(wide, sources))
    record, uri = trial_in(storage / "few"), f"sqlite:///{database}"
    place = {"storage": storage, "tracking_uri": uri}
    assert len(record.evals()[-1].rows["irrelevant_pass"].values) == CORE_ROWS
    assert ended(finalists_main, "few", ["C2 @ 2"], **place) == 0
    (found,) = record.later_evals(FINALISTS)
    assert len(found.rows["irrelevant_pass"].values) == CORE_ROWS + 4
    core = record.evals()[-1].rows["irrelevant_pass"].values
    assert {row: found.rows["irrelevant_pass"].values[row] for row in core} == core  # the kept adapter answers alike
    assert ended(finalists_main, "few", ["C2 @ 2", "C2@2"], **place) == 0
    assert "1 adapters of 1 candidates, 1 measured before" in capsys.readouterr().out
    check_record(record)
    assert ended(holdout_main, "few", ["C2 @ 2"], **place) == 0
    (held_out,) = record.later_evals(HOLDOUT)
    assert len(held_out.rows["irrelevant_pass"].values) == CORE_ROWS + 2, "a holdout has no reserve"

    logged = read_logged("few", uri)
    of_arm = {one.arm: one for one in placements_of(logged.runs, ())}
    candidate = next(one for one in candidates_of(of_arm["C2"], logged.trained) if one.step == 2)
    ((mine, base),) = paired([candidate], candidates_of(of_arm["A0"], logged.trained)[-1])
    assert base is not None
    assert [len(one.evals[0].rows["irrelevant_pass"].values) for one in (mine, base)] == [CORE_ROWS + 4] * 2


def test_finalists_need_rows_that_no_eval_asks(experiment: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be irrelevant rows that no eval asks, but evals ask them all"):
        finalists_main("few", ["C2 @ 6"], experiment.parent, f"sqlite:///{tmp_path / 'm.db'}")


def test_printed_commands_are_typed_as_they_stand(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sweeps.execution.later_evals.measure_into", lambda *_, **__: Counts())
    monkeypatch.setattr("sweeps.execution.later_evals.copy_to_mlflow", lambda *_: None)
    named = experiment.rename(experiment.parent / "a few")
    uri = f"sqlite:///{tmp_path / 'my store.db'}"
    words = ["footprint", "pareto", "--experiment", "a few", "--tracking-uri", uri]
    assert ended(rescale_main, "a few", storage=named.parent, tracking_uri=uri) == 0
    assert shlex.split(capsys.readouterr().out.split("next: ")[1]) == words
    with pytest.raises(UserError) as refused:
        finalists_main("a few", ["C2 @ 6"], named.parent, uri)
    assert shlex.split((refused.value.hint or "").split("choose with: ")[1]) == words
    found = ended_experiment(named.parent, "a few", uri)
    spec = trial_in(named).spec()
    with pytest.raises(UserError, match="the baseline of C2 must be there") as refused:
        replace(found, baselines={}).baseline_of(spec)
    options = shlex.split((refused.value.hint or "").split("options added: ")[1])
    assert options == ["--resume", "--storage", str(named.parent), "--experiment", "a few"]


def test_printed_commands_hold_no_password() -> None:
    printed = pareto_command("few", "postgresql://me:secret@host/db")
    assert "secret" not in printed
    assert shlex.split(printed, comments=True) == ["footprint", "pareto", "--experiment", "few"]


@pytest.mark.parametrize("fault", ["not finite", "not from the model"])
def test_an_invalid_eval_of_the_base_is_an_error_of_the_user(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainables.derived.measuring import measure_base

    finding = Finding("foreign_answers", "invalid", 0, "3 answers are not the model's")
    metrics = {"eval_loss": math.nan if fault == "not finite" else 0.5}
    measured = SimpleNamespace(scores=SimpleNamespace(metrics=metrics), finding=finding)
    monkeypatch.setattr("trainables.derived.measuring.eval_integrity.measure", lambda *_: measured)
    engine = SimpleNamespace(evaluator=None, base=SimpleNamespace(path=Path("base")))
    says = "eval_loss nan at step 0" if fault == "not finite" else "3 answers are not the model's"
    with pytest.raises(UserError, match=f"base: the eval of the base must be valid, but {says}") as refused:
        measure_base(engine)  # type: ignore[arg-type] only the parts that are read
    assert "footprint doctor" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("pick", "says"),
    [("C9 @ 6", "must be of an arm with a result, but got `C9`"), ("C2 @ 5", "none is at step 5"),
     ("C2 @ 6 x -1", "a scale must be a number"), ("C2 @ 4 average", "an average is that of the last 3 evals"),
     ("C2", "by arm and step")],
)  # fmt: skip
def test_a_pick_that_is_none_is_refused_before_anything_is_loaded(
    pick: str, says: str, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.engine.Engine.load", lambda *_: pytest.fail("a base was loaded"))
    with pytest.raises(UserError, match=says):
        holdout_main("few", [pick], experiment.parent, f"sqlite:///{tmp_path / 'm.db'}")


@pytest.mark.parametrize("scales", ["-0.5", "nan", "0.5,,0.7", "1"])
def test_a_scale_that_is_none_is_refused_before_anything_is_read(scales: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a scale must be|--scales must have"):
        rescale_main("gone", scales, storage=tmp_path)


def test_the_command_of_the_picks_is_read_by_the_holdout() -> None:
    picks = [Candidate("C2", 60, "1", ()), Candidate("D1", 90, "0.5", ()), Candidate("B2", 90, "average", ())]
    words = shlex.split(holdout_command("stage4", picks))
    assert words[:4] == ["footprint", "holdout", "--experiment", "stage4"]
    assert words[4::2] == ["--candidate"] * 3
    named = [parse_candidate(word) for word in words[5::2]]
    assert [(one.arm, one.step, one.scale) for one in named] == [(one.arm, one.step, one.scale) for one in picks]
