"""Tests the evaluator: its questions, its decoding, and that it has no side effects."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_trials import SpecMaker, never, opened

from trainables.constraint import CONSTRAINT
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.guards import GUARDS, broken_by_baseline, judge
from trainables.io.files import write_json
from trainables.probes.probe import Baseline
from trainables.record import Measurement, Record
from trainables.spec import Source


def test_logits_of_labels_alone_equal_the_full_ones(engine: Engine) -> None:
    import torch

    from trainables.data.encoding import IGNORED, collate
    from trainables.evaluation.evaluator import label_logits

    rows = [engine.encode(index, 2048) for index in range(3)]
    batch = collate(rows, engine.encoder, engine.base.device, pad_left=False)
    with torch.no_grad():
        logits, targets = label_logits(engine.base, batch)
        full = engine.base.model(**batch.inputs, labels=batch.labels)
    supervised = batch.labels[:, 1:] != IGNORED
    torch.testing.assert_close(logits, full.logits[:, :-1][supervised], rtol=0, atol=1e-5)
    assert torch.equal(targets, batch.labels[:, 1:][supervised])
    assert float(torch.nn.functional.cross_entropy(logits, targets)) == pytest.approx(float(full.loss), abs=1e-6)


def test_answers_are_greedy_whatever_the_base_ships_as_generation_settings(
    engine: Engine, make_spec: SpecMaker, tmp_path: Path
) -> None:
    """Qwen2.5-VL ships a repetition penalty; it would hide the very repetition that blindness counts."""
    import torch

    shipped = {"do_sample": True, "temperature": 5.0, "top_k": 3, "repetition_penalty": 5.0, "no_repeat_ngram_size": 1}
    base = Path(shutil.copytree(make_spec().base.path, tmp_path / "base"))
    write_json(base / "generation_config.json", {**shipped, "min_new_tokens": 12, "eos_token_id": 0})
    chatty = Engine.load(make_spec(base=Source(path=base, sha256="chatty")), torch.device("cpu"))
    assert chatty.evaluator.measure(None)[1] == engine.evaluator.measure(None)[1]


def test_validation_without_a_picture_is_refused_before_anything_is_measured(engine: Engine) -> None:
    from dataclasses import replace

    from trainables.probes.crops import check_pictures

    data = engine.evaluator.data
    blind = [replace(row, images=()) for row in data.validation]
    with pytest.raises(UserError, match="validation must hold a row with an image"):
        check_pictures(blind, sees=True)
    check_pictures([*blind, data.validation[0]], sees=True)
    check_pictures(blind, sees=False)


def test_an_eval_draws_no_random_number_and_repeats_itself(engine: Engine, baseline: Baseline) -> None:
    import torch

    before = torch.get_rng_state()
    scores, _ = engine.evaluator.measure(None)
    assert (scores.metrics, scores.counts) == (baseline.metrics, baseline.counts)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_recorded_was_measured_without_dropout(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    with opened(engine, make_spec(dropout=0.9), tmp_path / "t", baseline) as trial:
        assert trial.advance(never) is None
        engine.base.model.eval()
        again = engine.evaluator.measure(baseline)[0].metrics
    assert Record(tmp_path / "t").evals()[0].metrics == again
    assert again["eval_loss"] != baseline.metrics["eval_loss"]


def test_the_guards_of_the_study_pass_an_untouched_base(baseline: Baseline) -> None:
    untouched = [Measurement("eval", step, baseline.metrics) for step in (2, 4, 6)]
    floors_held = [guard for guard in GUARDS if not broken_by_baseline([guard], baseline)]
    assert judge(floors_held, baseline, untouched) is None
    assert CONSTRAINT.admits(baseline.metrics, baseline.metrics)
