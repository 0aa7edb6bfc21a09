"""Tests that a stopped, killed or continued trial equals an uninterrupted one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from small_trials import (
    ANYTHING_GOES,
    FIRES_AT_SECOND,
    SpecMaker,
    assert_same_outcome,
    never,
    opened,
    tensors,
    train_to,
    whole_run,
)

from trainables.checkpoints.adapter import adapter_source
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.guards import Ceiling
from trainables.io.files import read_json
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.training.resuming import resumable_step


@pytest.fixture(scope="module")
def uninterrupted(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path_factory: pytest.TempPathFactory
) -> Record:
    directory = tmp_path_factory.mktemp("uninterrupted") / "trial"
    return whole_run(engine, make_spec(), directory, baseline, constraint=ANYTHING_GOES)


def interrupted_at(step: int, engine: Engine, spec: TrialSpec, directory: Path, baseline: Baseline) -> Record:
    with opened(engine, spec, directory, baseline, constraint=ANYTHING_GOES) as trial:
        train_to(trial, step)
        assert trial.advance(lambda: True) is None
    assert Record(directory).verdict() is None
    return Record(directory)


def test_a_complete_run_writes_a_complete_record(uninterrupted: Record, make_spec: SpecMaker) -> None:
    from trainables.metrics import METRICS

    spec = make_spec()
    assert str(uninterrupted.verdict()) == "completed"
    assert uninterrupted.checkpoint_steps() == [4, 2]
    assert [(one.kind, one.step) for one in uninterrupted.measurements()] == [
        ("eval", 2), ("train", 2), ("eval", 4), ("train", 4),
    ]  # fmt: skip
    for one in uninterrupted.measurements():
        assert set(one.metrics) <= set(METRICS)
    placement = read_json(uninterrupted.directory / "placement.json")
    assert {tower: len(placement[tower]["modules"]) for tower in placement} == {"language": 14, "vision": 8}
    best = uninterrupted.best()
    assert best is not None and best.step in (2, 4)
    assert best.metrics == {one.step: one for one in uninterrupted.evals()}[best.step].metrics
    provenance = read_json(uninterrupted.directory / "best" / "provenance.json")
    assert provenance["trial_id"] == spec.trial_id
    assert (uninterrupted.directory / "best" / "README.md").read_text().startswith("---\nlibrary_name: peft\n")


@pytest.mark.parametrize("step", [0, 2, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 3))])
def test_a_stopped_trial_continues_as_if_uninterrupted(
    step: int,
    engine: Engine,
    make_spec: SpecMaker,
    baseline: Baseline,
    uninterrupted: Record,
    tmp_path: Path,
) -> None:
    record = interrupted_at(step, engine, make_spec(), tmp_path / "t", baseline)
    assert record.checkpoint_steps()[0] == step
    resumed = whole_run(engine, make_spec(), record.directory, baseline, constraint=ANYTHING_GOES)
    assert_same_outcome(resumed, uninterrupted)


def test_a_damaged_newest_checkpoint_costs_steps_and_nothing_else(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, uninterrupted: Record, tmp_path: Path
) -> None:
    record = interrupted_at(3, engine, make_spec(), tmp_path / "t", baseline)
    weights = record.checkpoint(3) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    assert record.checkpoint_steps() == [2]
    resumed = whole_run(engine, make_spec(), record.directory, baseline, constraint=ANYTHING_GOES)
    assert_same_outcome(resumed, uninterrupted)


def killed_after(step: int, finished: Record, directory: Path) -> Record:
    """Copy a finished record as a kill -9 after the checkpoint of `step`, before the verdict, would leave it."""
    shutil.copytree(finished.directory, directory)
    record = Record(directory)
    record.reopen()
    for later in record.checkpoint_steps():
        if later > step:
            shutil.rmtree(record.checkpoint(later))
    return record


@pytest.mark.parametrize("step", [-1, 2, 4])
def test_a_killed_trial_resumes_from_the_newest_complete_checkpoint(
    step: int, engine: Engine, make_spec: SpecMaker, baseline: Baseline, uninterrupted: Record, tmp_path: Path
) -> None:
    """-1: no checkpoint survived; 4: killed between the last checkpoint and the verdict."""
    record = killed_after(step, uninterrupted, tmp_path / "t")
    resumed = whole_run(engine, make_spec(), record.directory, baseline, constraint=ANYTHING_GOES)
    assert_same_outcome(resumed, uninterrupted)


def test_measurements_after_the_resumed_checkpoint_are_ignored(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, uninterrupted: Record, tmp_path: Path
) -> None:
    """Restarted without a checkpoint, the trial is at step 2 and must not be judged by its old step 4."""
    record = killed_after(-1, uninterrupted, tmp_path / "t")
    with opened(engine, make_spec(), record.directory, baseline, FIRES_AT_SECOND, ANYTHING_GOES) as trial:
        assert trial.advance(never) is None
        best = Record(record.directory).best()
    assert best is not None and best.step == 2


def torn(finished: Record, directory: Path, kept_bytes: int | None, checkpoints: tuple[int, ...] = (2, 4)) -> Record:
    """Copy a finished record without its verdict and with only the first bytes of its metrics."""
    shutil.copytree(finished.directory, directory)
    record = Record(directory)
    record.reopen()
    path = directory / "metrics.jsonl"
    path.unlink() if kept_bytes is None else path.write_bytes(path.read_bytes()[:kept_bytes])
    for step in {2, 4} - {*checkpoints}:
        shutil.rmtree(record.checkpoint(step))
    return record


@pytest.mark.parametrize(
    "lost_bytes",
    ["a line", "three and 20", "file",
     *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 20, "a line and 20", "three lines", "all"))],
)  # fmt: skip
def test_a_torn_tail_goes_back_to_where_the_lines_are_whole(
    lost_bytes: int | str,
    engine: Engine,
    make_spec: SpecMaker,
    baseline: Baseline,
    uninterrupted: Record,
    tmp_path: Path,
) -> None:
    lines = (uninterrupted.directory / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    lost = {"a line": len(lines[3]), "a line and 20": len(lines[3]) + 20, "three lines": sum(map(len, lines[1:])),
            "three and 20": sum(map(len, lines[1:])) + 20, "all": sum(map(len, lines))}  # fmt: skip
    size = sum(map(len, lines))
    kept = None if lost_bytes == "file" else size - (lost_bytes if isinstance(lost_bytes, int) else lost[lost_bytes])
    record = torn(uninterrupted, tmp_path / "t", kept)
    resumed = whole_run(engine, make_spec(), record.directory, baseline, constraint=ANYTHING_GOES)
    assert_same_outcome(resumed, uninterrupted)


@pytest.mark.parametrize("checkpoints", [(2, 4), (4,), (2,), ()])
def test_every_cut_of_the_metrics_has_a_step_to_resume_from(
    checkpoints: tuple[int, ...], make_spec: SpecMaker, baseline: Baseline, uninterrupted: Record, tmp_path: Path
) -> None:
    """The step is the newest checkpoint up to which each train and eval line can be read."""
    spec, path = make_spec(), uninterrupted.directory / "metrics.jsonl"
    record = torn(uninterrupted, tmp_path / "t", path.stat().st_size, checkpoints)
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for length in sorted({*range(0, len(whole), 61), *(end + off for end in [0, *ends[:-1]] for off in (0, 1)), *ends}):
        (record.directory / "metrics.jsonl").write_bytes(whole[:length])
        complete = whole[:length].count(b"\n")
        expected = max((step for step in checkpoints if complete >= step), default=None)
        assert resumable_step(record, spec, ANYTHING_GOES, baseline.metrics) == expected, length


def test_a_lost_best_adapter_of_an_unfinished_trial_is_trained_again(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, uninterrupted: Record, tmp_path: Path
) -> None:
    record = killed_after(4, uninterrupted, tmp_path / "t")
    best = record.best()
    assert best is not None
    shutil.rmtree(record.directory / "best")
    resumed = whole_run(engine, make_spec(), record.directory, baseline, constraint=ANYTHING_GOES)
    assert_same_outcome(resumed, uninterrupted)


def test_a_guard_that_fired_before_the_kill_fires_after_it(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, uninterrupted: Record, tmp_path: Path
) -> None:
    fires_at_once = (Ceiling("eval_loss", max_absolute_rise=-1e9, patience_evals=1),)
    record = killed_after(2, uninterrupted, tmp_path / "t")
    record.forget_after(2)
    with opened(engine, make_spec(), record.directory, baseline, fires_at_once) as trial:
        verdict = trial.advance(never)
    assert verdict is not None
    assert (verdict.kind, verdict.step, verdict.cause) == ("pruned", 2, "eval_loss")


def parent_of(record: Record, **changes: Any) -> dict[str, Any]:
    source = adapter_source(record.checkpoint(4), changes.get("optimizer", "fresh"))
    return {"init_from": source, "seed": 9, **changes}


def test_a_continued_adapter_starts_where_its_parent_ended(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, uninterrupted: Record, tmp_path: Path
) -> None:
    for optimizer in ("fresh", "resumed"):
        spec = make_spec(**parent_of(uninterrupted, optimizer=optimizer))
        record = interrupted_at(0, engine, spec, tmp_path / optimizer, baseline)
        start, parent = record.checkpoint(0), uninterrupted.checkpoint(4)
        name = "adapter_model.safetensors"
        assert (start / name).read_bytes() == (parent / name).read_bytes()
        expected = tensors(parent / "optimizer.safetensors") if optimizer == "resumed" else {}
        assert tensors(start / "optimizer.safetensors") == expected


@pytest.mark.parametrize("optimizer", ["fresh", "resumed"])
def test_a_continued_trial_stopped_at_its_start_continues_as_if_uninterrupted(
    optimizer: str, engine: Engine, make_spec: SpecMaker, baseline: Baseline, uninterrupted: Record, tmp_path: Path
) -> None:
    spec = make_spec(**parent_of(uninterrupted, optimizer=optimizer, steps=2))
    whole = whole_run(engine, spec, tmp_path / "whole", baseline, constraint=ANYTHING_GOES)
    stopped = interrupted_at(0, engine, spec, tmp_path / "stopped", baseline)
    resumed = whole_run(engine, spec, stopped.directory, baseline, constraint=ANYTHING_GOES)
    assert_same_outcome(resumed, whole)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rank": 8}, "`r` must equal this trial's value 8, but it is 4"),
        ({"placement": Placement(language=3, vision=2)}, r"only in this trial's placement"),
    ],
)
def test_a_parent_of_another_shape_is_refused(
    changes: dict,
    expected: str,
    engine: Engine,
    make_spec: SpecMaker,
    baseline: Baseline,
    uninterrupted: Record,
    tmp_path: Path,
) -> None:
    import torch

    own_engine = Engine.load(make_spec(), torch.device("cpu"))  # a trial that does not open may leave LoRA on it
    with (
        pytest.raises(UserError, match=expected),
        opened(own_engine, make_spec(**parent_of(uninterrupted, **changes)), tmp_path / "t", baseline),
    ):
        pass


def test_an_optimizer_that_is_not_there_cannot_be_resumed(
    make_spec: SpecMaker, baseline: Baseline, uninterrupted: Record, tmp_path: Path
) -> None:
    import torch

    own_engine = Engine.load(make_spec(), torch.device("cpu"))
    plain = shutil.copytree(uninterrupted.checkpoint(4), tmp_path / "plain")
    (plain / "optimizer.safetensors").unlink()
    spec = make_spec(init_from=Source(path=plain, sha256="plain"), optimizer="resumed")
    with (
        pytest.raises(UserError, match=f"{plain}: a resumed optimizer needs optimizer.safetensors"),
        opened(own_engine, spec, tmp_path / "t", baseline),
    ):
        pass
