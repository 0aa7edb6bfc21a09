"""Tests trials of families that train one after another: decoding, packing, whole trials and quantized bases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
import transformers
from sequential_rows import ours, rows_of, theirs
from small_trials import ANYTHING_GOES, Sources, assert_same_outcome, opened, whole_run
from tiny_sequential import (
    PLACED_BLOCKS,
    SEEING,
    TINY_SEQUENTIAL,
    reference_processor,
)

from trainables.checkpoints.verification import verify
from trainables.cohort.opening import open_cohort
from trainables.cohort.sequential import SequentialCohort
from trainables.constraint import Constraint, TextConstraint
from trainables.data.encoding import Encoded
from trainables.data.packing import pack
from trainables.data.rows import Row
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.evaluation.decoding import greedy_tokens
from trainables.evaluation.evaluator import label_logits
from trainables.model.families import FAMILIES
from trainables.record import Record
from trainables.selftest.run import SelfTest
from trainables.spec import Placement
from trainables.training.trial import open_trial

EACH = pytest.mark.parametrize("family", TINY_SEQUENTIAL)
EACH_SEEING = pytest.mark.parametrize("family", SEEING)
EXACT = 1e-5
SourcesOf = Callable[[str], Sources]


def constraint_of(family: str) -> Constraint:
    return ANYTHING_GOES if family in SEEING else TextConstraint(max_text_retention_drop=1.0)


# -------------------------------------------------------------------- decoding
def prompts_of(engine: Engine, rows: Sequence[Row]) -> list[Encoded]:
    return [engine.encoder.prompt(row.prompt, row.images) for row in rows]


@EACH
def test_answers_in_a_batch_are_those_of_generate_row_by_row(family: str, sequential_sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sequential_sources_of(family))
    rows = rows_of(engine) if family in SEEING else [*engine.train[:2], packed.text_row("What?", "five.")]
    ends, pad = list(engine.encoder.answer_ends), engine.encoder.tokenizer.pad_token_id
    new, near = greedy_tokens(engine.base.model, engine.encoder, engine.base.device, prompts_of(engine, rows), 8, 1e-5)
    processor = reference_processor(family, engine.base.path) if family in SEEING else None
    answers = set()
    for row, own in zip(rows, new.tolist(), strict=True):
        if processor is not None:
            inputs = theirs(processor, [row], ask=True)
        else:
            inputs = {"input_ids": torch.tensor([engine.encoder.prompt(row.prompt, ()).tokens])}
        alone = engine.base.model.generate(
            **inputs, max_new_tokens=8, do_sample=False, eos_token_id=ends, pad_token_id=pad
        )
        expected = alone[0, inputs["input_ids"].shape[1] :].tolist()
        assert own[: len(expected)] == expected, row.row_id
        assert set(own[len(expected) :]) <= {pad}
        answers.add(tuple(expected))
    assert len(answers) > 1 and near is not None
    lengths = {len(prompt.tokens) for prompt in prompts_of(engine, rows)}
    assert len(lengths) > 1  # or no row is padded


@pytest.mark.parametrize("family", ["qwen3_5_text", "gemma3"])
def test_the_evaluators_answers_are_the_same_with_and_without_drafts(
    family: str, sequential_sources_of: SourcesOf
) -> None:
    evaluator = packed.plain_engine(sequential_sources_of(family)).evaluator
    _, plain = evaluator.measure(None, None)
    _, drafted = evaluator.measure(None, [evaluator.drafts_from(plain)])
    assert drafted == plain


# -------------------------------------------------------------------- packing
@pytest.mark.parametrize("family", ["qwen3_5", "qwen3_5_text"])
def test_linear_attention_packs_no_rows(family: str, sequential_sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sequential_sources_of(family))
    rows = [engine.encoder.conversation(packed.text_row("What?", word)) for word in ("red.", "two.")]
    with pytest.raises(UserError, match="layers of linear attention, whose state goes on from row to row"):
        pack(rows, engine.base, 512)


def test_packed_rows_of_text_are_separate(sequential_sources_of: SourcesOf) -> None:
    for family in (name for name in TINY_SEQUENTIAL if FAMILIES[name].packs_rows):
        engine = packed.plain_engine(sequential_sources_of(family))
        rows = [engine.encoder.conversation(packed.text_row(f"What is {n}?", f"{n}.")) for n in ("two", "five", "red")]
        with torch.no_grad():
            together, _ = label_logits(engine.base, pack(rows, engine.base, 512))
            apart = [label_logits(engine.base, packed.collated([row], engine))[0] for row in rows]
        assert torch.allclose(together, torch.cat(apart), atol=EXACT), family


# -------------------------------------------------------------------- whole trials
@EACH
def test_a_trial_is_tested_trained_saved_and_verified(
    family: str, sequential_sources_of: SourcesOf, tmp_path: Path
) -> None:
    from peft import PeftModel

    sources = sequential_sources_of(family)
    engine, baseline = packed.plain_engine(sources), packed.short_baseline(packed.plain_engine, sources)
    depths = Placement(language=2, vision=2 if PLACED_BLOCKS[family] else 0)
    spec = sources.spec(placement=depths, learning_rate=2e-2, vision_learning_rate=2e-2)
    batch = ours(engine, rows_of(engine)[:4] if family in SEEING else engine.train[:3])
    with opened(engine, spec, tmp_path / "trial", baseline, constraint=constraint_of(family)) as trial:
        trial.selftest = SelfTest(engine)
        while trial.advance(lambda: False) is None:
            pass
        with torch.no_grad():
            live, _ = label_logits(engine.base, batch)
    record = Record(tmp_path / "trial")
    assert str(record.verdict()) == "completed", record.verdict()
    checkpoint = record.checkpoint(spec.steps)
    assert verify(checkpoint).passed, verify(checkpoint)
    fresh = getattr(transformers, FAMILIES[family].model_class).from_pretrained(sources.base.path)
    plain: Any = PeftModel.from_pretrained(fresh, str(checkpoint)).get_base_model()
    with torch.no_grad():
        loaded, _ = label_logits(replace(engine.base, model=plain), batch)
        bare, _ = label_logits(engine.base, batch)
    assert torch.allclose(live, loaded, atol=EXACT)
    assert (live - bare).abs().max() > 1e-2


def test_two_trials_train_one_after_another(sequential_sources_of: SourcesOf, tmp_path: Path) -> None:
    sources = sequential_sources_of("gemma3")
    engine, baseline = packed.plain_engine(sources), packed.short_baseline(packed.plain_engine, sources)
    specs = [sources.spec(name=name, placement=Placement(language=1, vision=one)) for one, name in enumerate("ab")]
    alone = [whole_run(engine, one, tmp_path / "alone" / one.name, baseline, constraint=ANYTHING_GOES) for one in specs]
    trials = []
    for spec in specs:
        record = Record(tmp_path / "cohort" / spec.name)
        record.create(spec)
        trials.append(open_trial(engine, spec, record, baseline, (), ANYTHING_GOES))
        trials[-1].adapter.remove()
    cohort = open_cohort(engine, trials)
    assert isinstance(cohort, SequentialCohort)
    while cohort.trials:
        cohort.advance(lambda: False)
    for spec, own in zip(specs, alone, strict=True):
        assert_same_outcome(own, Record(tmp_path / "cohort" / spec.name))


@pytest.mark.parametrize(
    ("family", "quantization"),
    [
        ("qwen3_5", "nf4-double"),
        ("gemma3", "nf4"),
        *(pytest.param(one, "int8", marks=pytest.mark.slow) for one in TINY_SEQUENTIAL),
    ],
)
def test_a_quantized_base_trains_and_leaves_what_is_no_linear(
    family: str, quantization: str, sequential_sources_of: SourcesOf, tmp_path: Path
) -> None:
    sources = sequential_sources_of(family)
    spec = sources.spec(
        placement=Placement(language=1, vision=1 if PLACED_BLOCKS[family] else 0), quantization=quantization
    )
    engine = Engine.load(spec, torch.device("cpu"), resident="quantized")
    packed.shorten_evals(engine)
    linears = {f"{one.name}.weight" for blocks in engine.base.towers.values() for block in blocks for one in block}
    outside = {f"{name}.weight" for name in engine.base.family.outside(engine.base.config)}
    model = engine.base.model
    named = (*model.named_parameters(), *model.named_buffers())  # some limits and scales are buffers
    floats = {name for name, one in named if one.dtype == torch.float32}
    assert not floats & linears
    assert floats >= {*engine.base.family.weights(engine.base.config)} - linears - outside - {"lm_head.weight"}
    baseline = packed.short_baseline(packed.plain_engine, sources)
    record = whole_run(engine, spec, tmp_path / "trial", baseline, constraint=constraint_of(family))
    assert str(record.verdict()) == "completed"
