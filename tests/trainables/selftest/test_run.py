"""Tests the self-test: its measurements, that it restores what it changes, and that it runs once per arm."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_trials import SpecMaker, assert_same_outcome, finish, opened, whole_run

from trainables.checkpoints.adapter import adapter_source
from trainables.engine import Engine
from trainables.io.files import read_json
from trainables.model.checksums import base_checksums
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.selftest.judge import BatchFacts, Reloaded, SelfTestFacts, TowerFacts, judge_reload, judge_selftest
from trainables.selftest.reload import Comparison, Reloader
from trainables.selftest.run import SELFTEST_FILE, SelfTest, arm_of
from trainables.source_check import SourceChanged
from trainables.spec import Placement
from trainables.training.failures import infeasible

TOWER = TowerFacts(
    expected_modules=14, adapted_modules=14, expected_parameters=100, trainable_parameters=100,
    optimized_parameters=100, configured_rate=1e-3, rate=1e-3, dead_b=(), dead_a=(), unmoved=(), first_move=1e-3,
)  # fmt: skip
IMAGE = BatchFacts(2, 2, 32, 32, tokens=118, padding_tokens=0, supervised_tokens=20, losses=(3.0, 2.9))
TEXT = BatchFacts(2, 0, 0, 0, tokens=38, padding_tokens=2, supervised_tokens=11, losses=(1.0,))
SOUND = SelfTestFacts(
    adapters=("default",), active_adapters=("default",), foreign_trainable=(), foreign_optimized=0, changed_base=(),
    towers={"language": TOWER, "vision": TOWER}, batches={"image": IMAGE, "text": TEXT}, uniform_loss=6.0,
    fresh_adapter=True, fresh_optimizer=True, noise=0.0, effect_before=0.0, effect_after=0.5, changed_after=True,
    restored=True,
)  # fmt: skip


def tower(**changes: Any) -> dict[str, Any]:
    return {"towers": {"language": TOWER, "vision": replace(TOWER, **changes)}}


def image(**changes: Any) -> dict[str, Any]:
    return {"batches": {"image": replace(IMAGE, **changes), "text": TEXT}}


# ---------------------------------------------------------------- the judgement
@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({}, None),
        ({"adapters": ("default", "stage2")}, "adapters"),
        ({"active_adapters": ()}, "adapters"),
        ({"foreign_trainable": ("lm_head.weight",)}, "trainable_set"),
        ({"foreign_optimized": 1}, "optimizer_set"),
        ({"changed_base": ("lm_head.weight",)}, "base_changed"),
        (tower(adapted_modules=13), "placement"),
        (tower(trainable_parameters=99), "trainable_set"),
        (tower(optimized_parameters=99), "optimizer_set"),
        (tower(rate=1.009e-3), None),
        (tower(rate=1.02e-3), "rate"),
        (tower(dead_b=("b",)), "zero_gradient"),
        (tower(dead_a=("a",)), "zero_gradient"),
        (tower(unmoved=("a",)), "unmoved"),
        (tower(first_move=0.91e-3), None),
        (tower(first_move=0.89e-3), "unmoved"),
        (tower(first_move=1.11e-3), "unmoved"),
        (tower(first_move=0.0) | {"fresh_optimizer": False}, None),
        (image(image_tokens=31), "image_tokens"),
        (image(supervised_tokens=0), "supervised_tokens"),
        (image(supervised_tokens=116), "supervised_tokens"),
        (image(supervised_tokens=115), None),
        (image(losses=(3.0, float("nan"))), "non_finite_loss"),
        (image(losses=(9.0, 3.0)), None),
        (image(losses=(9.1, 3.0)), "loss_too_large"),
        (image(losses=(9.1, 3.0), trained_before=True), None),  # a ruinous rate is pruned by what it does, not here
        ({"batches": {"text": TEXT}}, "zero_gradient"),
        ({"batches": {"text": TEXT}, "towers": {"language": TOWER}}, None),
        ({"effect_before": 1e-9}, "adapter_effect"),
        ({"effect_before": 1e-9, "fresh_adapter": False}, None),
        ({"effect_before": 0.0, "fresh_adapter": False}, "adapter_effect"),
        ({"effect_before": 1e-3, "noise": 1e-3}, None),
        ({"effect_before": 1e-3, "noise": 1e-3, "fresh_adapter": False}, "adapter_effect"),
        ({"effect_after": 0.0}, "adapter_effect"),
        ({"effect_after": 1e-3, "noise": 1e-3}, "adapter_effect"),
        ({"changed_after": False}, "adapter_effect"),
        ({"restored": False}, "restored"),
    ],
)
def test_each_measurement_of_the_self_test_is_judged(changes: dict[str, Any], check: str | None) -> None:
    finding = judge_selftest(replace(SOUND, **changes))
    assert (finding.check if finding else None) == check


@pytest.mark.parametrize(
    ("difference", "effect", "fires"),
    [(0.0, 0.5, False), (0.025, 0.5, False), (0.026, 0.5, True), (1e-4, 1e-6, False), (3e38, 0.5, True)],
)
def test_a_loaded_adapter_may_differ_by_rounding_alone(difference: float, effect: float, fires: bool) -> None:
    assert (judge_reload(Reloaded(difference, effect, process=1)) is not None) is fires


def test_an_adapter_that_cannot_be_loaded_is_invalid_and_one_that_was_not_checked_is_labelled() -> None:
    for failure, level in (("size mismatch", "invalid"), ("torch.OutOfMemoryError: CUDA out of memory", "degraded")):
        finding = judge_reload(Reloaded(0.0, 0.0, process=1, failure=failure))
        assert finding is not None and finding.level == level


# ---------------------------------------------------------------- on the miniature
@pytest.fixture(scope="module")
def reloader(make_spec: SpecMaker) -> Iterator[Reloader]:
    made = Reloader(make_spec(), "cpu")
    yield made
    made.close()


def prove(selftest: SelfTest, trial: Any) -> dict[str, Any]:
    assert selftest.prove(trial.spec, trial.record, trial.adapter, trial.optimizer) is None
    return read_json(trial.record.directory / SELFTEST_FILE)


def test_the_measurements_of_a_valid_arm_are_recorded(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, reloader: Reloader, tmp_path: Path
) -> None:
    with opened(engine, make_spec(), tmp_path / "t", baseline) as trial:
        kept = prove(SelfTest(engine, reloader), trial)
        expected = {name: trial.placement.parameters(name, 4) for name in ("language", "vision")}
    assert {name: one["trainable_parameters"] for name, one in kept["towers"].items()} == expected
    assert kept["effect_before"] == 0.0 < kept["effect_after"]
    assert [len(one["losses"]) for one in kept["batches"].values()] == [2, 1]
    assert kept["batches"]["text"]["padding_tokens"] > 0, "some failures need a padded row"
    for name, rate in (("language", 2e-3), ("vision", 4e-3)):
        assert kept["towers"][name]["first_move"] == pytest.approx(rate, rel=1e-3)
    assert kept["reload"]["process"] != os.getpid()
    assert kept["reload"]["difference"] <= 1e-5 < kept["reload"]["effect"]


def test_a_trial_after_its_self_test_equals_one_without(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    from trainables.training.trial import open_trial

    plain = whole_run(engine, make_spec(), tmp_path / "plain", baseline)
    record = Record(tmp_path / "proved")
    record.create(make_spec())
    from trainables.constraint import CONSTRAINT

    trial: Any = open_trial(engine, make_spec(), record, baseline, (), CONSTRAINT, SelfTest(engine))
    finish(trial)
    trial.remove()
    assert (record.directory / SELFTEST_FILE).exists()
    assert_same_outcome(record, plain)


def test_a_resumed_optimizer_is_put_back_with_its_moments(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    import torch

    parent = whole_run(engine, make_spec(), tmp_path / "parent", baseline)
    source = adapter_source(parent.checkpoint(4), "resumed")
    with opened(engine, make_spec(init_from=source, optimizer="resumed"), tmp_path / "t", baseline) as trial:
        state = trial.optimizer.adamw.state
        before = {name: state[p]["exp_avg"].clone() for name, p in trial.optimizer.named}
        kept = prove(SelfTest(engine), trial)
        after = {name: trial.optimizer.adamw.state[p]["exp_avg"] for name, p in trial.optimizer.named}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not kept["fresh_optimizer"] and not kept["fresh_adapter"] and kept["effect_before"] > 0
    assert kept["handover"] is None, "the parent's loss on the same rows is its own"


def test_a_continued_trial_that_is_resumed_is_not_held_against_its_parent_again(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    parent = whole_run(engine, make_spec(), tmp_path / "parent", baseline)
    spec = make_spec(init_from=adapter_source(parent.checkpoint(4)))
    with opened(engine, spec, tmp_path / "t", baseline) as trial:
        for _, parameter in trial.adapter.trained():
            parameter.data.mul_(-3.0)
        proofs = [
            SelfTest(engine).prove(spec, trial.record, trial.adapter, trial.optimizer, step=step) for step in (0, 2)
        ]
    assert [str(one and one.check) for one in proofs] == ["handover", "None"]


def test_repeats_of_an_arm_share_its_self_test(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    selftest = SelfTest(engine)
    spec = make_spec(steps=2)
    arms = {"first": spec, "repeat": spec.model_copy(update={"seed": 1, "data_seed": 2}),
            "other": spec.model_copy(update={"rank": 8})}  # fmt: skip
    kept = {}
    for name, one in arms.items():
        with opened(engine, one, tmp_path / name, baseline) as trial:
            kept[name] = prove(selftest, trial)
    assert kept["repeat"] == {"proved_by": "first"}
    assert "towers" in kept["first"] and "towers" in kept["other"]
    assert arm_of(arms["first"]) == arm_of(arms["repeat"]) != arm_of(arms["other"])


def test_a_checksum_sees_one_changed_bit_and_not_the_adapter(
    make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    import torch

    spec = make_spec(quantization="nf4-double", placement=Placement(language=1))
    engine = Engine.load(spec, torch.device("cpu"), resident="quantized")
    with opened(engine, spec, tmp_path / "t", baseline) as trial:
        model = engine.base.model
        before = base_checksums(model)
        assert any(".quant_state." in name for name in before)
        trial.adapter.trained()[0][1].data.add_(1.0)
        assert base_checksums(model) == before
        state = next(p.quant_state for p in model.parameters() if getattr(p, "quant_state", None) is not None)
        one = state.absmax.view(-1)[:1].clone()
        state.absmax.view(-1)[:1] += 1
        changed = {name for name, value in base_checksums(model).items() if value != before[name]}
        state.absmax.view(-1)[:1] = one
        assert len(changed) == 1 and base_checksums(model) == before


def test_the_other_process_ends_with_ours_and_starts_again(make_spec: SpecMaker) -> None:
    reloader = Reloader(make_spec(), "cpu")
    first = reloader._started()
    reloader.close()
    assert first.poll() is not None
    second = reloader._started()
    assert second.stdin is not None
    second.stdin.close()
    assert second.wait(timeout=60) == 0, "it ends by itself when nobody writes to it"
    reloader.close()


@pytest.mark.slow
def test_a_process_that_was_killed_is_replaced(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, reloader: Reloader, tmp_path: Path
) -> None:
    with opened(engine, make_spec(), tmp_path / "t", baseline) as trial:
        process = reloader._started()
        process.kill()
        process.wait()
        assert prove(SelfTest(engine, reloader), trial)["reload"]["process"] != process.pid


def test_a_killed_reload_process_is_not_the_adapters_fault(
    make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal is a fault of the machine: the trial is retried, and the adapter is not called broken."""
    reloader = Reloader(make_spec(), "cpu")
    monkeypatch.setattr(
        "trainables.selftest.reload.select.select", lambda *_: (reloader._started().kill(), ["ready"])[1:] * 3
    )
    with pytest.raises(RuntimeError, match="ended with -9"):
        reloader._ask(Comparison("nowhere", "nowhere"))


def test_a_base_that_has_changed_is_not_compared_with(make_spec: SpecMaker, tmp_path: Path) -> None:
    """The other process uses the files of the base, so they must be those that the trial was planned with."""
    planned = make_spec()
    copied = tmp_path / "base"
    shutil.copytree(planned.base.path, copied)
    spec = planned.model_copy(update={"base": planned.base.model_copy(update={"path": copied})})
    reloader = Reloader(spec, "cpu")
    config = copied / "config.json"
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    nothing: Any = None
    with pytest.raises(SourceChanged, match="the base must be unchanged since the trial was planned") as raised:
        reloader.compare(nothing, nothing, nothing, nothing)
    assert reloader._process is None, "no process was started"
    verdict = infeasible(raised.value, step=3)
    assert (verdict.kind, verdict.cause, verdict.step) == ("failed", "changed_source", 3)


@pytest.mark.slow
def test_a_worker_tests_each_arm_once_and_reloads_the_base_after_an_invalid_one(
    make_spec: SpecMaker, baseline: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.constraint import CONSTRAINT
    from trainables.model.optimizer import Optimizer
    from trainables.workers.protocol import Request, Rules
    from trainables.workers.trainable import TrialWorker

    def config(name: str, **changes: Any) -> dict[str, Any]:
        spec = make_spec(name=name, steps=1, batch_rows=1, **changes)
        record = Record(tmp_path / name)
        record.create(spec)
        rules = Rules({spec.baseline().trial_id: baseline}, (), CONSTRAINT)
        return {"request": Request((str(record.directory),), rules, str(tmp_path / "stop"), cpus=1, gpus=0)}

    def verdict() -> str:
        [trial] = worker.train()["report"].trials
        return str(trial.verdict)

    worker = TrialWorker(config("first"))
    assert verdict() == "completed"
    worker.reset(config("repeat", seed=1))
    assert verdict() == "completed"
    assert read_json(tmp_path / "repeat" / SELFTEST_FILE) == {"proved_by": "first"}
    assert read_json(tmp_path / "first" / SELFTEST_FILE)["reload"]["process"] != os.getpid()
    engine = worker._backend.cache.engine
    with monkeypatch.context() as patched:
        patched.setattr(Optimizer, "step", lambda self, step: 1.0)
        worker.reset(config("broken", rank=8))
        assert verdict() == "invalid(rate)"
    worker.reset(config("after", rank=8))
    assert verdict() == "completed" and worker._backend.cache.engine is not engine
    worker.cleanup()
    assert worker._backend.cache.selftest is None
