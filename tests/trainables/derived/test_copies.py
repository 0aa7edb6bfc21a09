"""Tests that copies are what PEFT loads: scaled ones on the line to the base, averages the best of their rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from frozen_room import keeping, kept_of
from small_trials import ANYTHING_GOES, SpecMaker, whole_run

from trainables.data.encoding import collate
from trainables.derived.average import averaged
from trainables.derived.candidate_name import parse_candidate
from trainables.derived.copies import (
    AdapterCopy,
    checked_scale,
    copies_of,
    parse_scales,
    save_derived,
)
from trainables.derived.measuring import measure_copies
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.measurement import AVERAGE, Measurement
from trainables.model.base import Base, load_base
from trainables.model.lora import place
from trainables.model.peft_files import ADAPTER_WEIGHTS
from trainables.model.placement import resolve
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.shipping.package import write_adapter


@pytest.fixture(scope="module")
def trained(
    engine: Engine, baseline: Baseline, make_spec: SpecMaker, tmp_path_factory: pytest.TempPathFactory
) -> Record:
    """A trial of six steps with an eval after two, and no longer any checkpoint of its first eval."""
    spec = make_spec(steps=6, learning_rate=5e-3, vision_learning_rate=1e-2)
    directory = tmp_path_factory.mktemp("trials") / f"trial-{spec.trial_id}"
    return whole_run(engine, spec, directory, baseline, constraint=ANYTHING_GOES)


@pytest.fixture
def logits(engine: Engine, make_spec: SpecMaker) -> Iterator[Callable[[Path | None], torch.Tensor]]:
    """Compute the logits of one batch with an adapter that PEFT alone loads."""
    from peft import PeftModel

    base: Base = load_base(make_spec().base.path, "none", "float32", torch.device("cpu"))
    batch = collate([engine.evaluator.validation[0]], engine.encoder, torch.device("cpu"), pad_left=False)

    def compute(directory: Path | None) -> torch.Tensor:
        model: Any = PeftModel.from_pretrained(base.model, str(directory)) if directory else base.model
        with torch.no_grad():
            found = model(**batch.inputs).logits
        if directory:
            model.unload()
        return found

    yield compute


def changes(directory: Path) -> dict[str, np.ndarray]:
    """Return the dense weight change of each module, as PEFT computes it."""
    from peft import PeftConfig
    from safetensors.numpy import load_file

    config: Any = PeftConfig.from_pretrained(str(directory))
    tensors = load_file(directory / ADAPTER_WEIGHTS)
    return {
        name: config.lora_alpha / config.r * tensors[name.replace("lora_A", "lora_B")].astype(np.float64) @ down
        for name, down in tensors.items()
        if "lora_A" in name
    }


def base_logits(engine: Engine) -> torch.Tensor:
    """Compute the logits of one batch with the engine's base as it is."""
    batch = collate([engine.evaluator.validation[0]], engine.encoder, torch.device("cpu"), pad_left=False)
    engine.base.model.eval()
    with torch.no_grad():
        return engine.base.model(**batch.inputs).logits


def placed_logits(engine: Engine, record: Record, directory: Path, scale: float) -> torch.Tensor:
    """Compute the logits of one batch with an adapter that this process places as training and evals do."""
    spec = record.spec()
    spec = spec.model_copy(update={"alpha": spec.alpha * scale})
    adapter = place(engine.base, spec, resolve(spec.placement, engine.base.towers, spec.target_modules))
    adapter.load(directory)
    try:
        return base_logits(engine)
    finally:
        adapter.remove()


# ---------------------------------------------------------------- the record
def test_the_adapter_of_every_eval_is_kept_and_is_what_it_was(trained: Record) -> None:
    assert [trained.adapter_at(step) is not None for step in (2, 4, 6, 8)] == [True, True, True, False]
    kept = trained.directory / "adapters" / "step-6"
    assert sorted(path.name for path in kept.iterdir()) == ["adapter_config.json", ADAPTER_WEIGHTS, "manifest.json"]
    assert (kept / ADAPTER_WEIGHTS).read_bytes() == (trained.checkpoint(6) / ADAPTER_WEIGHTS).read_bytes()


def test_a_trial_that_keeps_best_alone_has_no_adapters(
    engine: Engine, baseline: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    from trainables.training.trial import open_trial

    record = Record(tmp_path / "trial")
    record.create(make_spec(steps=2))
    trial = open_trial(engine, record.spec(), record, baseline, (), ANYTHING_GOES, keep="best")
    try:
        trial.advance(lambda: False)
    finally:
        trial.remove()
    assert not (record.directory / "adapters").exists()
    assert record.adapter_at(2) == record.checkpoint(2)


def test_the_copies_of_a_record_are_all_evals_at_all_scales_and_one_average(trained: Record) -> None:
    found = [(one.step, one.scale) for one in copies_of(trained, ("0.25", "0.5"))]
    assert found == [(2, "0.25"), (2, "0.5"), (4, "0.25"), (4, "0.5"), (6, "0.25"), (6, "0.5"), (6, AVERAGE)]


# ---------------------------------------------------------------- scaled copies
def test_a_scaled_copy_is_on_the_line_between_base_and_adapter(trained: Record, tmp_path: Path) -> None:
    assert save_derived(trained, 6, "0.5", tmp_path / "half") == 0.0
    whole, half = changes(trained.directory / "adapters" / "step-6"), changes(tmp_path / "half")
    assert len(whole) > 10 and any(bool(one.any()) for one in whole.values())
    for name, one in whole.items():
        np.testing.assert_array_equal(half[name], one / 2)


def test_peft_computes_the_merged_weights_of_a_scaled_copy(
    trained: Record, tmp_path: Path, logits: Callable[[Path | None], torch.Tensor]
) -> None:
    save_derived(trained, 6, "0.25", tmp_path / "copy")
    save_derived(trained, 6, "1", tmp_path / "whole")
    copy, whole, base = logits(tmp_path / "copy"), logits(tmp_path / "whole"), logits(None)
    torch.testing.assert_close(whole, logits(trained.directory / "adapters" / "step-6"), rtol=0, atol=0)
    assert float((whole - base).abs().max()) > 0.1
    assert 0.0 < float((copy - base).abs().max()) < float((whole - base).abs().max())


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0])
def test_peft_loads_what_this_process_evaluates_at_a_scale(
    trained: Record, engine: Engine, tmp_path: Path, logits: Callable[[Path | None], torch.Tensor], scale: float
) -> None:
    save_derived(trained, 6, f"{scale:g}", tmp_path / "copy")
    here = placed_logits(engine, trained, trained.directory / "adapters" / "step-6", scale)
    torch.testing.assert_close(logits(tmp_path / "copy"), here, rtol=0, atol=1e-5)
    other = placed_logits(engine, trained, trained.directory / "adapters" / "step-6", scale / 2)
    assert float((other - here).abs().max()) > 1e-3, "another scale would be seen"


def test_a_strength_of_0_is_the_base(
    trained: Record, tmp_path: Path, logits: Callable[[Path | None], torch.Tensor]
) -> None:
    (tmp_path / "none").mkdir()
    write_adapter(trained.directory / "adapters" / "step-6", trained.spec(), 0.0, tmp_path / "none")
    torch.testing.assert_close(logits(tmp_path / "none"), logits(None), rtol=0, atol=0)


def test_peft_loads_the_average_that_dense_weights_give(
    trained: Record, engine: Engine, tmp_path: Path, logits: Callable[[Path | None], torch.Tensor]
) -> None:
    save_derived(trained, 6, AVERAGE, tmp_path / "average")
    kept = [changes(trained.directory / "adapters" / f"step-{step}") for step in (2, 4, 6)]
    weights = dict(engine.base.model.named_parameters())
    before, rank = {}, trained.spec().rank
    for name in kept[0]:
        left, singular, right = np.linalg.svd(np.mean([one[name] for one in kept], axis=0), full_matrices=False)
        best = (left[:, :rank] * singular[:rank]) @ right[:rank]
        weight = weights[name.removeprefix("base_model.model.").replace(".lora_A", "")].data
        before[name] = (weight, weight.clone())
        weight += torch.from_numpy(best).to(weight.dtype)
    try:
        dense = base_logits(engine)
    finally:
        for weight, old in before.values():
            weight.copy_(old)
    torch.testing.assert_close(logits(tmp_path / "average"), dense, rtol=0, atol=1e-5)


@pytest.mark.parametrize("text", ["-0.5", "0", "1", "1.5", "nan", "inf", "-inf", "half", "", "0x1"])
def test_a_scale_that_is_none_is_refused(text: str, trained: Record, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a scale must be a number above 0 and below 1, but got"):
        checked_scale(text)
    if text != "1":
        with pytest.raises(UserError, match="a scale must be a number"):
            save_derived(trained, 6, text, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_scales_are_read_once_in_their_shortest_form() -> None:
    assert parse_scales("0.50,.5,0.75") == ("0.5", "0.75")
    assert parse_scales("") == ("0.25", "0.5", "0.75")


# ---------------------------------------------------------------- the average
def test_the_average_is_the_best_of_its_rank(trained: Record, tmp_path: Path) -> None:
    error = save_derived(trained, 6, AVERAGE, tmp_path / "average")
    kept = [changes(trained.directory / "adapters" / f"step-{step}") for step in (2, 4, 6)]
    found, rank = changes(tmp_path / "average"), trained.spec().rank
    means = {name: np.mean([one[name] for one in kept], axis=0) for name in kept[0]}
    for name in [*means][::9]:
        left, singular, right = np.linalg.svd(means[name], full_matrices=False)  # numpy's dense SVD is the reference
        best = (left[:, :rank] * singular[:rank]) @ right[:rank]
        np.testing.assert_allclose(found[name], best, atol=2e-6 * max(1.0, float(singular[0])))
    lost = sum(float(((means[name] - found[name]) ** 2).sum()) for name in means)
    whole = sum(float((one**2).sum()) for one in means.values())
    assert error == pytest.approx((lost / whole) ** 0.5, rel=1e-4, abs=1e-9)
    assert 0 < error < 0.5


def test_the_average_of_equal_adapters_is_the_adapter() -> None:
    rng = np.random.default_rng(0)
    prefix = "base_model.model.layer"
    one = {f"{prefix}.lora_A.weight": rng.normal(size=(3, 7)), f"{prefix}.lora_B.weight": rng.normal(size=(2, 3))}
    found = averaged([one, one, one])
    product = found.tensors[f"{prefix}.lora_B.weight"] @ found.tensors[f"{prefix}.lora_A.weight"]
    np.testing.assert_allclose(product, one[f"{prefix}.lora_B.weight"] @ one[f"{prefix}.lora_A.weight"], atol=1e-5)
    assert found.relative_error < 1e-12
    with pytest.raises(ValueError, match="names or shapes differ"):
        averaged([one, {}])


def test_an_average_without_its_adapters_is_refused(trained: Record, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="step 4 was asked for") as refused:
        save_derived(trained, 4, AVERAGE, tmp_path / "copy")
    assert refused.value.hint == "name step 6"
    with pytest.raises(UserError, match="the adapter of step 3 must be kept, but it is not"):
        save_derived(trained, 3, "0.5", tmp_path / "copy")


# ---------------------------------------------------------------- measuring
def test_copies_measured_together_are_what_they_are_alone(engine: Engine, baseline: Baseline, trained: Record) -> None:
    known = {trained.spec().baseline().trial_id: baseline}
    copies = [AdapterCopy(trained, 6, scale) for scale in ("0.25", "0.5", AVERAGE, "1")]
    together = {copy.scale: found for copy, found in measure_copies(engine, copies, known)}
    alone = {copy.scale: found for copy, found in measure_copies(engine, copies, known, at_once=1)}
    last = trained.evals()[-1]
    for scale, found in together.items():
        other = alone[scale]
        assert isinstance(found, Measurement) and isinstance(other, Measurement)
        assert (found.step, found.scale, found.rows.keys()) == (6, scale, last.rows.keys())
        assert found.metrics == pytest.approx(other.metrics, abs=1e-4)
    at_full = together["1"]
    assert isinstance(at_full, Measurement)
    assert at_full.metrics == pytest.approx(last.metrics, abs=1e-4)
    keeps = keeping(engine)
    from_kept = dict(measure_copies(keeps, copies, known, at_once=2))
    assert kept_of(keeps).store.uses.from_memory > 0, "two groups start at one cut"
    for copy, found in from_kept.items():
        other = alone[copy.scale]
        assert isinstance(found, Measurement) and isinstance(other, Measurement)
        assert found.metrics == pytest.approx(other.metrics, abs=1e-4)
    losses = {scale: one.metrics["eval_loss"] for scale, one in together.items() if isinstance(one, Measurement)}
    assert len(set(losses.values())) == 4
    assert "rank_cut_error" in together[AVERAGE].metrics  # type: ignore[union-attr] checked above
    assert not any("lora_" in name for name, _ in engine.base.model.named_modules())


# ---------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("text", "name"),
    [("C2 @ 60", "C2 @ 60"), ("C2@60x0.50", "C2 @ 60 x 0.5"), (" L2 r8 @ 90 average ", "L2 r8 @ 90 average")],
)
def test_a_name_is_read_as_it_is_printed(text: str, name: str) -> None:
    assert str(parse_candidate(text)) == name
    assert parse_candidate(name) == parse_candidate(text)


@pytest.mark.parametrize("text", ["C2", "@ 60", "C2 @", "C2 @ -1", "C2 @ 60 y 0.5", "C2 @ 60 x", "C2 @ 60 x -1", ""])
def test_a_name_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be"):
        parse_candidate(text)
