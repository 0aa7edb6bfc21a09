"""Tests the shift: equal to KL by transformers and PEFT alone, per tower, packed as solo, and off by default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
from peft import get_peft_model
from small_trials import Sources, opened
from transformers import AutoModelForImageTextToText

from trainables.cohort.evaluator import CohortEvaluator
from trainables.cohort.shared_forward import SharedForward
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.evaluation.live_probe import GivenAnswers, live_scores
from trainables.evaluation.shift import ShiftProbe, divergence
from trainables.model.lora import Adapter, without_lora
from trainables.probes.metric import Scores
from trainables.probes.probe import Baseline
from trainables.recorded_baselines import baseline_in
from trainables.sharing_keys import engine_key
from trainables.spec import Placement, ProbeRequest, TrialSpec
from trainables.suites.requested import live_probes

SHIFT = (ProbeRequest(suite="shift"),)
BOTH, NOISE = Placement(language=3, vision=4), 0.3
OFF: dict[str, tuple[str, ...]] = {"shift": (), "shift_language_off": ("language",), "shift_vision_off": ("vision",)}


@pytest.fixture(scope="module")
def engine(sources: Sources) -> Engine:
    with packed.all_double():
        return packed.double_engine(sources)


@pytest.fixture(scope="module")
def baseline(engine: Engine) -> Baseline:
    with packed.all_double():
        scores, answers = engine.evaluator.measure(None)
    return Baseline(scores.metrics, {}, scores.counts, answers=answers)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with packed.all_double():
        yield


def solo(engine: Engine, baseline: Baseline | None, answers: dict[str, str] | None = None) -> Scores:
    asked = {0: GivenAnswers(answers or {}, baseline)}
    return live_scores([ShiftProbe(engine.evaluator)], engine.evaluator, asked)[0]


def by_hand(engine: Engine, adapter: Adapter, probe: ShiftProbe, answers: Sequence[str]) -> dict[str, Any]:
    """Return KL by row, of transformers' own model with PEFT's own adapter, one row at a time."""
    found: dict[str, dict[str, float]] = {name: {} for name in OFF}
    kept: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    base = AutoModelForImageTextToText.from_pretrained(engine.base.path, **kept).double()
    base.load_state_dict(_unwrapped(engine))
    model = get_peft_model(base.eval(), adapter.config, autocast_adapter_dtype=False).double().eval()
    parameters, trained = dict(model.named_parameters()), dict(adapter.trained())
    assert {name for name in parameters if "lora_" in name} == set(trained)
    for name, tensor in trained.items():
        parameters[name].data.copy_(tensor)
    weights = {name: p.detach().clone() for name, p in model.named_parameters() if "lora_B" in name}
    for row, encoded in zip(probe.rows, probe._encoded(tuple(answers)), strict=True):
        batch = packed.collated([encoded], engine)
        supervised = torch.from_numpy(batch.is_supervised[0])
        with torch.no_grad():
            with model.disable_adapter():
                before = model(**batch.inputs).logits[0, :-1][supervised].log_softmax(-1)
            for name, towers in OFF.items():
                for key, parameter in model.named_parameters():
                    if key in weights:
                        is_off = ("visual" in key and "vision" in towers) or (
                            "visual" not in key and "language" in towers
                        )
                        parameter.copy_(weights[key] * (not is_off))
                after = model(**batch.inputs).logits[0, :-1][supervised].log_softmax(-1)
                found[name][row.row_id] = float((before.exp() * (before - after)).sum(-1).mean())
    return found


def _unwrapped(engine: Engine) -> dict[str, torch.Tensor]:
    return {
        name.replace(".base_layer", ""): tensor
        for name, tensor in engine.base.model.state_dict().items()
        if "lora_" not in name
    }


def test_the_shift_is_that_of_transformers_and_peft_alone(engine: Engine, baseline: Baseline, sources: Sources) -> None:
    adapter = packed.grown(engine.base, sources.spec(placement=BOTH, seed=3), NOISE)
    try:
        probe = ShiftProbe(engine.evaluator)
        own = live_scores([probe], engine.evaluator, {0: GivenAnswers({}, baseline)})[0]
        answers = [baseline.answers[f"ood/{row.row_id}"] for row in probe.rows]
        expected = by_hand(engine, adapter, probe, answers)
    finally:
        adapter.remove()
    for name, rows in expected.items():
        assert dict(own.rows[name].values) == pytest.approx(rows, rel=1e-9, abs=1e-13)
        tokens = own.rows[name].weights
        mean = sum(rows[row] * count for row, count in tokens.items()) / sum(tokens.values())
        assert own.metrics[name] == pytest.approx(mean, rel=1e-9)
    assert len({round(value, 9) for value in own.metrics.values()}) == len(OFF) and min(own.metrics.values()) > 0


def test_a_tower_without_lora_does_not_drift(engine: Engine, baseline: Baseline, sources: Sources) -> None:
    for placement, silent, loud in (
        (Placement(language=2), "language", "vision"),
        (Placement(vision=3), "vision", "language"),
    ):
        adapter = packed.grown(engine.base, sources.spec(placement=placement), NOISE)
        try:
            metrics = solo(engine, baseline).metrics
        finally:
            adapter.remove()
        assert metrics[f"shift_{silent}_off"] == pytest.approx(0, abs=1e-13)
        assert metrics[f"shift_{loud}_off"] == metrics["shift"] > 0


def test_vision_lora_shifts_no_answer_to_text(engine: Engine, baseline: Baseline, sources: Sources) -> None:
    adapter = packed.grown(engine.base, sources.spec(placement=Placement(vision=3)), NOISE)
    try:
        rows = solo(engine, baseline).rows["shift"].values
    finally:
        adapter.remove()
    kinds = {row.row_id: row.kind for row in engine.evaluator.data.ood}
    assert all((abs(nats) < 1e-13) == (kinds[row] == "text") for row, nats in rows.items())


def test_the_base_itself_has_not_moved(engine: Engine, baseline: Baseline) -> None:
    scores = solo(engine, None, dict(baseline.answers))
    assert set(scores.metrics.values()) == {0.0} and set(scores.metrics) == set(OFF)
    assert scores.rows["shift"].weights and "shift" not in scores.counts


def test_a_cohort_measures_what_each_member_measures_alone(
    engine: Engine, baseline: Baseline, sources: Sources
) -> None:
    specs = [
        sources.spec(placement=Placement(language=language, vision=vision), seed=seed)
        for seed, (language, vision) in enumerate([(2, 0), (4, 0), (0, 3), (7, 2)])
    ]
    alone = []
    for spec in specs:
        adapter = packed.grown(engine.base, spec, NOISE)
        alone.append(solo(engine, baseline))
        adapter.remove()
    assert len({one.metrics["shift"] for one in alone}) == len(alone), "equality would say nothing"
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs, NOISE))
    try:
        joint = CohortEvaluator(engine.evaluator, shared)
        asked = dict.fromkeys(range(len(specs)), GivenAnswers({}, baseline))
        together = live_scores([ShiftProbe(engine.evaluator)], joint, asked)
    finally:
        shared.remove()
    for number, own in enumerate(alone):
        for name in OFF:
            assert dict(together[number].rows[name].values) == pytest.approx(own.rows[name].values, rel=1e-9, abs=1e-12)


def test_switching_a_tower_off_leaves_the_adapter_as_it_was(engine: Engine, sources: Sources) -> None:
    adapter = packed.grown(engine.base, sources.spec(placement=BOTH), NOISE)
    try:
        before = {name: (p.requires_grad, p.clone()) for name, p in adapter.trained()}
        with pytest.raises(KeyError), without_lora(engine.base, ("vision",)):
            raise KeyError
        assert all(p.requires_grad == before[name][0] for name, p in adapter.trained())
        scalings = {
            layer.scaling["default"]
            for layer in engine.base.model.modules()
            if hasattr(layer, "scaling") and isinstance(layer.scaling, dict)
        }
        assert scalings == {adapter.scaling}
    finally:
        adapter.remove()


def test_divergence_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    base, tuned = (torch.randn(600, 11, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = torch.nn.functional.kl_div(
        tuned.log_softmax(-1), base.log_softmax(-1), reduction="none", log_target=True
    )
    assert torch.allclose(divergence(base, tuned), expected.sum(-1), rtol=1e-12)


def test_a_baseline_without_answers_is_refused(engine: Engine, baseline: Baseline) -> None:
    with pytest.raises(UserError, match="needs the baseline's answers") as raised:
        solo(engine, Baseline(baseline.metrics, {}))
    assert "--fresh-baseline" in str(raised.value.hint)


def test_a_trial_records_the_shift_at_each_eval(sources: Sources, tmp_path: Path) -> None:
    spec = sources.spec(probes=SHIFT, placement=Placement(language=1), steps=2)
    engine = packed.plain_engine(sources)
    engine.evaluator.live_probes = live_probes(SHIFT, engine.evaluator)
    try:
        with opened(engine, spec.baseline(), tmp_path / "base", None) as trial:
            assert trial.advance(lambda: False).kind == "completed"
            known = baseline_in(trial.record)
        with opened(engine, spec, tmp_path / "trial", known) as trial:
            trial.advance(lambda: False)
            evals = trial.record.evals()
    finally:
        engine.evaluator.live_probes = ()
    assert known.metrics["shift"] == 0.0
    assert [one.metrics["shift"] > 0 for one in evals] == [True]
    assert len(evals[-1].rows["shift"].values) == len(engine.evaluator.data.ood)


def test_a_spec_without_further_probes_keeps_its_identity(sources: Sources) -> None:
    plain, asked = sources.spec(), sources.spec(probes=SHIFT)
    assert "probes" not in plain.identity() and "probes" not in plain.baseline().identity()
    assert asked.trial_id != plain.trial_id and asked.baseline().trial_id != plain.baseline().trial_id
    assert engine_key(asked)[: len(engine_key(plain))] == engine_key(plain) != engine_key(asked)
    again = TrialSpec.model_validate_json(asked.model_dump_json())
    assert again == asked and again.trial_id == asked.trial_id
