"""Tests every way in which a trial ends; each is planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_trials import ANYTHING_GOES, FIRES_AT_SECOND, SpecMaker, never, opened, whole_run

from trainables.engine import Engine
from trainables.errors import UserError
from trainables.io.files import read_json
from trainables.probes.captions import captions_in
from trainables.probes.probe import Baseline
from trainables.record import Record


def plant(trial: Any, step: int, value: float) -> Any:
    """Ask for no stop, but overwrite every LoRA weight when `step` steps are done."""

    def ask() -> bool:
        if trial.progress.step == step:
            for _, parameter in trial.adapter.trained():
                parameter.data.fill_(value)
        return False

    return ask


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_non_finite_loss_ends_the_trial_at_its_step(
    value: float, engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    with opened(engine, make_spec(), tmp_path / "t", baseline) as trial:
        assert trial.advance(never) is None
        verdict = trial.advance(plant(trial, 2, value))
    assert verdict is not None
    assert (verdict.kind, verdict.step, verdict.cause) == ("invalid", 3, "non_finite_loss")
    record = Record(tmp_path / "t")
    assert record.verdict() == verdict
    assert record.checkpoint_steps() == [2]  # nothing was kept of what is broken
    assert [one.step for one in record.evals()] == [2]
    assert engine.evaluator.measure(None)[0].metrics == baseline.metrics  # and the base is as it was


def test_a_non_finite_gradient_ends_the_trial(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    with opened(engine, make_spec(), tmp_path / "t", baseline) as trial:
        parameter = trial.adapter.trained()[0][1]
        handle = parameter.register_hook(lambda gradient: gradient * float("inf"))
        verdict = trial.advance(never)
        handle.remove()
    assert verdict is not None
    assert (verdict.kind, verdict.step, verdict.cause) == ("invalid", 1, "non_finite_gradient")


def test_a_non_finite_eval_ends_the_trial_and_is_not_recorded(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    """The last step of an interval can break the weights after its own loss was still a number."""
    with opened(engine, make_spec(), tmp_path / "t", baseline) as trial:
        step = trial.optimizer.step

        def break_weights(number: int) -> float:
            norm = step(number)
            if number == 1:
                trial.adapter.trained()[-1][1].data.fill_(float("nan"))
            return norm

        trial.optimizer.step = break_weights
        verdict = trial.advance(never)
    assert verdict is not None
    assert (verdict.kind, verdict.step, verdict.cause) == ("invalid", 2, "non_finite_eval")
    assert "eval_loss" in (verdict.reason or "")
    assert Record(tmp_path / "t").measurements() == []
    assert Record(tmp_path / "t").checkpoint_steps() == []


def test_best_holds_the_adapter_of_its_own_eval(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    with opened(engine, make_spec(), tmp_path / "t", baseline, constraint=ANYTHING_GOES) as trial:
        assert trial.advance(never) is None
        assert str(trial.advance(plant(trial, 2, 3.0))) == "completed"
    record, name = Record(tmp_path / "t"), "adapter_model.safetensors"
    losses = [one.metrics["eval_loss"] for one in record.evals()]
    assert losses[1] > losses[0]
    best = record.best()
    assert best is not None and best.step == 2
    assert (record.directory / "best" / name).read_bytes() == (record.checkpoint(2) / name).read_bytes()
    assert (record.directory / "best" / name).read_bytes() != (record.checkpoint(4) / name).read_bytes()


def test_a_guard_prunes_and_the_record_says_why(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    with opened(engine, make_spec(steps=6), tmp_path / "t", baseline, FIRES_AT_SECOND) as trial:
        assert trial.advance(never) is None
        verdict = trial.advance(never)
    assert verdict is not None
    assert (verdict.kind, verdict.step, verdict.cause) == ("pruned", 4, "eval_loss")
    assert Record(tmp_path / "t").verdict() == verdict
    assert Record(tmp_path / "t").checkpoint_steps()[0] == 4


def test_steps_that_do_not_divide_end_with_an_eval(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    record = whole_run(engine, make_spec(steps=3, batch_rows=1), tmp_path / "t", baseline)
    assert [one.step for one in record.evals()] == [2, 3]
    assert record.verdict() is not None and record.verdict().step == 3  # type: ignore[union-attr]


def test_a_row_longer_than_max_tokens_stops_the_trial(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    output = r"row `train-\d+` must fit max_tokens = 8, but it has \d+ tokens"
    with (
        opened(engine, make_spec(max_tokens=8), tmp_path / "t", baseline) as trial,
        pytest.raises(UserError, match=output),
    ):
        trial.advance(never)


def test_the_baseline_measures_the_base_alone(engine: Engine, make_spec: SpecMaker, tmp_path: Path) -> None:
    spec = make_spec().baseline()
    with opened(engine, spec, tmp_path / "a0", None) as trial:
        assert trial.advance(lambda: True) is None
        verdict = trial.advance(never)
    record = Record(tmp_path / "a0")
    assert verdict is not None and str(verdict) == "completed"
    assert [(one.kind, one.step) for one in record.measurements()] == [("eval", 0), ("train", 0)]
    assert record.evals()[0].metrics == engine.evaluator.measure(None)[0].metrics
    assert set(captions_in(record.samples(0))) == {row.row_id for row in engine.evaluator.data.of_kind("caption")}
    assert read_json(record.directory / "placement.json")["language"]["modules"] == []


def test_a_trial_without_its_baseline_does_not_start(engine: Engine, make_spec: SpecMaker, tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="needs the baseline's metrics"),
        opened(engine, make_spec(), tmp_path / "t", None),
    ):
        pass
