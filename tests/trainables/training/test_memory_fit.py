"""Tests that a trial which does not fit the memory trains in smaller passes, with the gradients of the whole step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
from small_trials import Sources, SpecMaker
from together import Together, Watched, apart

from trainables.engine import Engine
from trainables.io.files import FileDamaged, read_json
from trainables.memory_file import MEMORY_FILE, WHOLE, Fit, MemoryNotes
from trainables.model.checksums import base_tensors
from trainables.model.live_bytes import LiveBytes
from trainables.probes.probe import Baseline
from trainables.spec import Placement, TrialSpec
from trainables.training import gradients as gradients_module
from trainables.training.failures import infeasible, memory_errors
from trainables.training.gradients import checkpointing
from trainables.training.memory_fit import MemoryFit
from trainables.training.trial import Trial

ROWS = 4
SHAPES = {"both": (2, 2), "vision": (0, 3), "language": (3, 0)}


@pytest.fixture
def double(sources: Sources) -> Iterator[Engine]:
    with packed.all_double():
        engine = packed.double_engine(sources)
        yield engine
        engine.fits.clear()


@pytest.fixture
def base_line(double: Engine, sources: Sources) -> Baseline:
    return packed.short_baseline(packed.double_engine, sources)


def spec_of(make: SpecMaker, shape: str = "both", **changes: Any) -> TrialSpec:
    language, vision = SHAPES[shape]
    placement = Placement(language=language, vision=vision)
    budget = {"batch_rows": ROWS, "steps": 2, "eval_every_steps": 2}
    return make(**{"name": shape, "placement": placement, **budget, **changes})


def held(engine: Engine) -> list[torch.Tensor]:
    return [tensor for _, tensor in base_tensors(engine.base.model)]


def gradients(trial: Trial, fit: Fit) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients of the first step of a trial, run as `fit` says."""
    trial.memory.notes = MemoryNotes(fit)
    batches = trial.engine.batches(trial.engine.row_stream(trial.spec, 0), trial.spec, 0)
    loss = trial.backward(batches)
    assert trial.memory.fit == fit
    found = {name: one.grad.clone() for name, one in trial.adapter.trained() if one.grad is not None}
    trial.optimizer.forget_gradients()
    return loss, found


def peak_of(trial: Trial, fit: Fit) -> int:
    with LiveBytes(held(trial.engine)) as live:
        gradients(trial, fit)
    return live.peak


@pytest.mark.parametrize(
    "name", ["both", *(pytest.param(one, marks=pytest.mark.slow) for one in ("vision", "language"))]
)
def test_parts_and_checkpointing_give_the_gradients_of_the_whole_step(
    name: str, double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    trial = Watched(double, base_line, tmp_path).open(spec_of(make_spec, name, accumulation_steps=2))
    for _, parameter in trial.adapter.trained():  # lora_B is zero at first, so lora_A has no gradient
        parameter.data.normal_(std=0.02, generator=torch.Generator().manual_seed(1))
    try:
        loss, whole = gradients(trial, Fit())
        assert trial.spec.dropout > 0 and all(bool(one.any()) for one in whole.values())
        for fit in (Fit(2), Fit(3), Fit(ROWS), Fit(ROWS, checkpointing=True), Fit(1, checkpointing=True)):
            own_loss, own = gradients(trial, fit)
            assert abs(own_loss - loss) < 1e-12, fit
            assert own.keys() == whole.keys()
            assert max(float((own[key] - whole[key]).abs().max()) for key in whole) < 1e-10, fit
    finally:
        trial.remove()


@pytest.mark.slow
def test_each_rung_takes_less_memory(double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path) -> None:
    trial = Watched(double, base_line, tmp_path).open(spec_of(make_spec))
    try:
        peaks = [peak_of(trial, fit) for fit in (Fit(), Fit(2), Fit(4), Fit(4, checkpointing=True))]
    finally:
        trial.remove()
    assert peaks == sorted(peaks, reverse=True) and len(set(peaks)) == 4


@contextmanager
def small_device(monkeypatch: pytest.MonkeyPatch, engine: Engine, limit: int) -> Iterator[None]:
    """Refuse tensors beyond `limit` bytes in every backward of the engine's trials."""
    import trainables.training.trial as alone
    from trainables.cohort import cohort

    def within(work: Any) -> Any:
        def planted(*args: Any) -> Any:
            with LiveBytes(held(engine), limit):
                return work(*args)

        return planted

    with monkeypatch.context() as patch:
        patch.setattr(alone, "backward_alone", within(alone.backward_alone))
        patch.setattr(cohort.Cohort, "_backward", within(cohort.Cohort._backward))
        yield


@pytest.fixture
def peaks(double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path) -> dict[Fit, int]:
    trial = Watched(double, base_line, tmp_path / "peaks").open(spec_of(make_spec))
    try:
        return {fit: peak_of(trial, fit) for fit in (Fit(), Fit(2), Fit(4), Fit(4, checkpointing=True))}
    finally:
        trial.remove()


@pytest.mark.slow
@pytest.mark.parametrize("rung", [Fit(2), Fit(4), Fit(4, checkpointing=True)], ids=str)
def test_a_trial_that_does_not_fit_trains_on_in_smaller_passes(
    rung: Fit, double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path, peaks: dict[Fit, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    spec = spec_of(make_spec)
    enough = Watched(double, base_line, tmp_path / "enough")
    enough.alone(spec)
    double.fits.clear()
    scarce = Watched(double, base_line, tmp_path / "scarce")
    larger = min(peak for fit, peak in peaks.items() if peak > peaks[rung])
    with small_device(monkeypatch, double, (peaks[rung] + larger) // 2):
        trial = scarce.alone(spec)
    assert trial.memory.fit == rung and str(trial.record.verdict()) == "completed"
    assert apart(scarce.curves[spec.name], enough.curves[spec.name]) < 1e-10
    kept = read_json(trial.record.directory / MEMORY_FILE)
    assert kept["fit"] == {"parts": rung.parts, "checkpointing": rung.checkpointing}
    assert "bytes are exceeded" in kept["changes"][0]["reason"]


def test_a_later_trial_of_the_shape_starts_from_what_fitted(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path, peaks: dict[Fit, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    watched = Watched(double, base_line, tmp_path)
    with small_device(monkeypatch, double, (peaks[Fit(2)] + peaks[Fit()]) // 2):
        watched.alone(spec_of(make_spec))
    later, other = watched.opened([spec_of(make_spec, seed=7, name="later"), spec_of(make_spec, "language")])
    assert later.memory.fit == Fit(2) and other.memory.fit == Fit()
    assert "same shape" in later.memory.notes.changes[0].reason


def test_a_resumed_trial_goes_on_as_its_record_says(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    trial = Watched(double, base_line, tmp_path).open(spec_of(make_spec))
    trial.remove()
    trial.memory._change(Fit(2), 1, "planted")
    double.fits.clear()
    assert MemoryFit.of(double, trial.spec, trial.record).fit == Fit(2)
    (trial.record.directory / MEMORY_FILE).write_text('{"fit": {"parts": 0, "checkpointing": false}, "changes": []}')
    with pytest.raises(FileDamaged):
        MemoryFit.of(double, trial.spec, trial.record)


def test_a_cohort_is_split_first_then_its_members_shrink_and_one_that_cannot_is_infeasible(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.cohort import cohort

    backward = cohort.Cohort._backward

    def planted(own: Any, numbers: Sequence[int], batches: Any, fit: Fit = WHOLE) -> Any:
        names = [own.trials[number].spec.name for number in numbers]
        found = backward(own, numbers, batches, fit)  # gradients are there already when memory runs out
        if len(numbers) > 1 or names == ["vision"] or (names == ["both"] and not fit.checkpointing):
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"
            )
        return found

    specs = [spec_of(make_spec, name) for name in ("both", "vision", "language")]
    enough = Together(double, base_line, tmp_path / "enough", specs).finish()
    double.fits.clear()
    monkeypatch.setattr(cohort.Cohort, "_backward", planted)
    scarce = Together(double, base_line, tmp_path / "scarce", specs).finish()
    assert scarce.ends == {"both": "completed", "language": "completed", "vision": "infeasible(memory)"}
    assert "activations computed twice" in (scarce.ended["vision"].reason or "")
    for name in ("both", "language"):
        assert apart(scarce.watched.curves[name], enough.watched.curves[name]) < 1e-10
    notes = {name: MemoryNotes.read(read_json(scarce.record(name).directory / MEMORY_FILE), Path("memory.json"))
             for name in ("both", "vision", "language")}  # fmt: skip
    assert notes["language"].changes[0].members == 3
    assert notes["both"].fit == Fit(ROWS, checkpointing=True) and notes["language"].fit == Fit()
    assert "split" in notes["language"].text and "computed twice" in notes["both"].text


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), MemoryError(),
])  # fmt: skip
def test_every_way_of_saying_that_memory_ran_out_is_one_verdict(error: Exception) -> None:
    with pytest.raises(torch.OutOfMemoryError) as raised, memory_errors():
        raise error
    assert str(infeasible(raised.value, 3)) == "infeasible(memory)"


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes") as raised, memory_errors():
        raise RuntimeError("shapes cannot be multiplied")
    assert not isinstance(raised.value, torch.OutOfMemoryError)


def test_checkpointing_leaves_no_gradient_below_the_lowest_adapter(double: Engine) -> None:
    """transformers lets the embeddings require gradients, and does not take it back."""
    model, embedding = double.base.model, double.base.model.get_input_embeddings()
    hooks = list(embedding._forward_hooks)
    for _ in range(2):
        with checkpointing(model):
            assert not embedding(torch.zeros(1, 1, dtype=torch.long)).requires_grad
    assert list(embedding._forward_hooks) == hooks


def test_the_gradients_of_a_step_that_broke_off_do_not_count_twice(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out at the last pass of a step, when the passes before it have left their gradients."""
    trial = Watched(double, base_line, tmp_path).open(
        spec_of(make_spec, "language", batch_rows=2, accumulation_steps=2)
    )
    batches = double.batches(double.row_stream(trial.spec, 0), trial.spec, 0)
    assert len(batches) == 2
    trial.backward(batches)
    enough = [one.grad.clone() for _, one in trial.adapter.trained() if one.grad is not None]
    trial.optimizer.forget_gradients()
    passes, original = iter(range(100)), gradients_module.label_logits

    def label_logits(*arguments: Any) -> Any:
        if next(passes) == 1:  # the second of the step's two
            raise torch.OutOfMemoryError("planted")
        return original(*arguments)

    monkeypatch.setattr(gradients_module, "label_logits", label_logits)
    trial.backward(batches)
    found = [one.grad for _, one in trial.adapter.trained() if one.grad is not None]
    trial.remove()
    assert trial.memory.fit == Fit(2) and enough
    assert max(float((one - other).abs().max()) for one, other in zip(enough, found, strict=True)) < 1e-10
