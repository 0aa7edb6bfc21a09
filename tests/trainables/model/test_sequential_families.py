"""Tests families whose trials train one after another against transformers' own processors and classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
import transformers
from small_trials import ANYTHING_GOES, Sources, assert_same_outcome, opened, whole_run
from tiny_families import picture_sources, text_sources
from tiny_sequential import (
    BLOCKS,
    LAYERS,
    SEEING,
    TINY_SEQUENTIAL,
    reference_processor,
    sequential_config,
    write_sequential_base,
)
from torch.nn.functional import cross_entropy

from trainables.checkpoints.verification import verify
from trainables.cohort.opening import open_cohort
from trainables.cohort.sequential import SequentialCohort
from trainables.constraint import Constraint, TextConstraint
from trainables.data.encoding import Batch, Encoded, collate
from trainables.data.images import read_picture
from trainables.data.packing import pack
from trainables.data.rows import Message, Row
from trainables.data.scan import load_encoder
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.evaluation.decoding import greedy_tokens
from trainables.evaluation.evaluator import label_logits
from trainables.model.families import FAMILIES
from trainables.model.lora import place
from trainables.model.module_kinds import PARTS
from trainables.model.placement import resolve
from trainables.record import Record
from trainables.selftest.run import SelfTest
from trainables.spec import Placement
from trainables.training.trial import open_trial

EACH = pytest.mark.parametrize("family", TINY_SEQUENTIAL)
EACH_SEEING = pytest.mark.parametrize("family", SEEING)
EXACT = 1e-5
SourcesOf = Callable[[str], Sources]


@pytest.fixture(scope="module")
def sources_of(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> SourcesOf:
    """Make the tiny base of a family and its rows, once; rows have pictures of several sizes where it sees."""

    @cache
    def make(family: str) -> Sources:
        directory = tmp_path_factory.mktemp(family)
        base = write_sequential_base(family, directory / "base")
        return picture_sources(directory, base, sources) if family in SEEING else text_sources(directory, base)

    return make


def constraint_of(family: str) -> Constraint:
    return ANYTHING_GOES if family in SEEING else TextConstraint(max_text_retention_drop=1.0)


def written(config: Any) -> dict[str, Any]:
    return json.loads(config.to_json_string(use_diff=True))


def network(family: str, config: Any) -> Any:
    with torch.device("meta"):
        return getattr(transformers, FAMILIES[family].model_class)(config)


# -------------------------------------------------------------------- which linears and weights
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "gemma3": ({}, {"vision_config": {"vision_use_head": True}}, {"text_config": {"attention_bias": True}}),
    "smolvlm": ({}, {"text_config": {"mlp_bias": True}, "scale_factor": 3}),
    "idefics3": ({}, {"vision_config": {"num_channels": 1}}),
    "internvl": (
        {},
        {"vision_config": {"use_qk_norm": True, "norm_type": "rms_norm", "attention_bias": True}},
        {"vision_config": {"use_mean_pooling": False, "use_mask_token": True}, "downsample_ratio": 0.25},
        {"vision_config": {"use_absolute_position_embeddings": False}, "text_config": {"model_type": "qwen3"}},
        {"text_config": {"model_type": "llama", "mlp_bias": True}},
    ),
    "qwen3_5": ({}, {"text_config": {"attention_bias": True}}, {"text_config": {"linear_num_key_heads": 4}}),
    "qwen3_5_text": ({}, {"linear_conv_kernel_dim": 3}, {"tie_word_embeddings": True}),
}


def varied(family: str, changes: dict[str, Any]) -> Any:
    values = sequential_config(family).to_dict()
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    return transformers.AutoConfig.for_model(**values)


def assert_known(family: str, config: Any) -> None:
    """Weights, linears and tying are those of the class in transformers."""
    model, values, known = network(family, config), written(config), FAMILIES[family]
    assert known.weights(values) == {name: tuple(one.shape) for name, one in model.state_dict().items()}
    assert known.is_tied(values) is ("lm_head.weight" in model.all_tied_weights_keys)
    kinds = torch.nn.Linear | torch.nn.Conv2d | torch.nn.Conv3d
    layers = {name for name, one in model.named_modules() if isinstance(one, kinds)}
    inside = [one.name for blocks in known.towers(values).values() for block in blocks for one in block]
    assert len(set(inside)) == len(inside)
    assert layers - set(inside) == {*known.outside(values), "lm_head"}
    assert {name.rsplit(".", 1)[-1] for name in inside} <= PARTS.keys()


@pytest.mark.parametrize(("family", "changes"), [(name, one) for name, many in VARIANTS.items() for one in many])
def test_weights_and_linears_are_those_of_transformers(family: str, changes: dict[str, Any]) -> None:
    config = varied(family, changes)
    assert_known(family, config)
    towers = FAMILIES[family].towers(written(config))
    assert (len(towers["language"]), len(towers["vision"])) == (LAYERS, BLOCKS if family in SEEING else 0)


@EACH
def test_a_configuration_without_values_has_those_of_the_class(family: str) -> None:
    assert_known(family, transformers.AutoConfig.for_model(family))


@EACH
@pytest.mark.parametrize("tied", [True, False])
def test_whether_a_family_is_tied_is_read_as_transformers_reads_it(family: str, tied: bool) -> None:
    assert_known(family, varied(family, {"tie_word_embeddings": tied}))


@EACH
def test_peft_wraps_exactly_the_modules_of_a_placement(family: str, sources_of: SourcesOf) -> None:
    from peft.tuners.lora import LoraLayer

    base = packed.plain_engine(sources_of(family)).base
    for language, vision in ((1, 0), (LAYERS, BLOCKS), (0, 2)) if family in SEEING else ((1, 0), (3, 0)):
        spec = sources_of(family).spec(placement=Placement(language=language, vision=vision))
        resolved = resolve(spec.placement, base.towers)
        adapter = place(base, spec, resolved)
        wrapped = {name for name, one in base.model.named_modules() if isinstance(one, LoraLayer)}
        adapter.remove()
        assert wrapped == set(resolved.module_names) != set()
        layers = {(tower, linear.name.split("layers.")[-1].split("blocks.")[-1].split(".")[0])
                  for tower, linears in resolved.linears.items() for linear in linears}  # fmt: skip
        assert layers == {*(("language", str(LAYERS - 1 - n)) for n in range(language)),
                          *(("vision", str(BLOCKS - 1 - n)) for n in range(vision))}  # fmt: skip


def test_most_layers_of_qwen3_5_have_no_queries_of_their_own() -> None:
    [linear, full, *_] = FAMILIES["qwen3_5_text"].towers(written(sequential_config("qwen3_5_text")))["language"]
    assert [one.name.rsplit(".", 1)[1] for one in linear[:5]] == [
        "in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj"]  # fmt: skip
    assert full[0].outputs == 2 * full[3].inputs  # queries, and the gate of the output


# -------------------------------------------------------------------- rows become the inputs of transformers' processor
def rows_of(engine: Engine) -> list[Row]:
    """Return rows with one picture, two of different sizes, side by side or apart, and none."""
    first, second, third = (engine.train[index] for index in range(3))
    answer = first.messages[-1]
    pair = (*first.images, *second.images)
    apart = Row("apart", (Message("user", "<image>Report the state.<image>"), answer), pair)
    together = Row(
        "together", (Message("user", "Now <image><image>\nreport."), answer), (*second.images, *third.images)
    )
    return [first, second, third, apart, together, packed.text_row("What is two plus three?", "five.")]


def parts_of(text: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for number, piece in enumerate(text.split("<image>")):
        found += [{"type": "image"}] * (number > 0) + [{"type": "text", "text": piece}] * bool(piece)
    return found


def theirs(processor: Any, rows: Sequence[Row], ask: bool = False) -> Any:
    """Return the inputs that transformers' processor makes of rows; with `ask` up to the start of the answer."""
    tokenizer, texts = processor.tokenizer, []
    for row in rows:
        turns = row.messages[:-1] if ask else row.messages
        conversation = [{"role": one.role, "content": parts_of(one.text)} for one in turns]
        texts.append(tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=ask,
                                                   enable_thinking=False))  # fmt: skip
    pictures = [[read_picture(path) for path in row.images] for row in rows if row.images]
    side = "left" if ask else "right"
    return processor(text=texts, images=pictures or None, return_tensors="pt", padding=True, padding_side=side)


def ours(engine: Engine, rows: Sequence[Row]) -> Batch:
    encoded = [engine.encoder.conversation(row) for row in rows]
    return collate(encoded, engine.encoder, engine.base.device, pad_left=False)


@EACH_SEEING
def test_a_row_becomes_the_inputs_that_transformers_makes_of_it(family: str, sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sources_of(family))
    processor = reference_processor(family, engine.base.path)
    for row in rows_of(engine):
        batch, expected = ours(engine, [row]).inputs, theirs(processor, [row])
        assert batch["input_ids"].tolist() == expected["input_ids"].tolist(), row.row_id
        assert {*batch} - {"mm_token_type_ids", "token_type_ids"} == {*expected} - {
            "mm_token_type_ids",
            "token_type_ids",
        }
        for name in batch:
            assert torch.equal(batch[name], expected[name].to(batch[name].dtype)), (row.row_id, name)


@EACH_SEEING
def test_logits_and_loss_are_those_of_transformers(family: str, sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sources_of(family))
    processor, rows = reference_processor(family, engine.base.path), rows_of(engine)
    expected = []
    with torch.no_grad():
        for row in rows:
            batch, inputs = ours(engine, [row]), theirs(processor, [row])
            logits, targets = label_logits(engine.base, batch)
            out = engine.base.model(**inputs, labels=batch.labels)
            expected.append(out.logits[:, :-1][batch.labels[:, 1:] >= 0].float())
            assert torch.allclose(logits, expected[-1], atol=EXACT)
            assert float(cross_entropy(logits, targets)) == pytest.approx(float(out.loss), abs=EXACT)
        together, _ = label_logits(engine.base, ours(engine, rows))  # padded, with pictures and without
    assert torch.allclose(together, torch.cat(expected), atol=EXACT)


@EACH_SEEING
def test_another_picture_changes_the_logits(family: str, sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sources_of(family))
    apart = next(row for row in rows_of(engine) if row.row_id == "apart")
    with torch.no_grad():
        one, _ = label_logits(engine.base, ours(engine, [apart]))
        other, _ = label_logits(engine.base, ours(engine, [replace(apart, images=apart.images[::-1])]))
    assert one.shape == other.shape and (one - other).abs().max() > 100 * EXACT


def test_without_the_types_of_tokens_the_logits_of_gemma3_differ(sources_of: SourcesOf) -> None:
    """The fault: the attention between the tokens of a picture is causal, and nothing reports it."""
    engine = packed.plain_engine(sources_of("gemma3"))
    processor, [row, *_] = reference_processor("gemma3", engine.base.path), rows_of(engine)
    blind = replace(engine.encoder.family, image_token_mask=None)
    batch = ours(engine, [row])
    with torch.no_grad():
        expected = engine.base.model(**theirs(processor, [row])).logits[:, :-1][batch.labels[:, 1:] >= 0]
        known = engine.encoder.family
        engine.encoder.family = blind
        try:
            faulty, _ = label_logits(engine.base, ours(engine, [row]))
        finally:
            engine.encoder.family = known
        right, _ = label_logits(engine.base, ours(engine, [row]))
    assert torch.allclose(right, expected, atol=EXACT)
    assert (faulty - expected).abs().max() > 100 * EXACT


@EACH_SEEING
def test_the_scan_counts_the_tokens_of_training(family: str, sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sources_of(family))
    scanned = load_encoder(engine.base.path)
    for row in rows_of(engine):
        assert scanned.conversation(row).tokens == engine.encoder.conversation(row).tokens


@EACH_SEEING
def test_pictures_without_a_place_in_the_text_are_refused(family: str, sources_of: SourcesOf) -> None:
    encoder, [row, *_] = (
        packed.plain_engine(sources_of(family)).encoder,
        rows_of(packed.plain_engine(sources_of(family))),
    )
    with pytest.raises(UserError, match="every image must have one image token, but got 1 image tokens for 2 images"):
        encoder.conversation(replace(row, images=row.images * 2))


# -------------------------------------------------------------------- decoding
def prompts_of(engine: Engine, rows: Sequence[Row]) -> list[Encoded]:
    return [engine.encoder.prompt(row.prompt, row.images) for row in rows]


@EACH
def test_answers_in_a_batch_are_those_of_generate_row_by_row(family: str, sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sources_of(family))
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
def test_the_evaluators_answers_are_the_same_with_and_without_drafts(family: str, sources_of: SourcesOf) -> None:
    evaluator = packed.plain_engine(sources_of(family)).evaluator
    _, plain = evaluator.measure(None, None)
    _, drafted = evaluator.measure(None, [evaluator.drafts_from(plain)])
    assert drafted == plain


# -------------------------------------------------------------------- packing
@pytest.mark.parametrize("family", ["qwen3_5", "qwen3_5_text"])
def test_linear_attention_packs_no_rows(family: str, sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sources_of(family))
    rows = [engine.encoder.conversation(packed.text_row("What?", word)) for word in ("red.", "two.")]
    with pytest.raises(UserError, match="layers of linear attention, whose state goes on from row to row"):
        pack(rows, engine.base, 512)


def test_packed_rows_of_text_are_separate(sources_of: SourcesOf) -> None:
    for family in (name for name in TINY_SEQUENTIAL if FAMILIES[name].packs_rows):
        engine = packed.plain_engine(sources_of(family))
        rows = [engine.encoder.conversation(packed.text_row(f"What is {n}?", f"{n}.")) for n in ("two", "five", "red")]
        with torch.no_grad():
            together, _ = label_logits(engine.base, pack(rows, engine.base, 512))
            apart = [label_logits(engine.base, packed.collated([row], engine))[0] for row in rows]
        assert torch.allclose(together, torch.cat(apart), atol=EXACT), family


# -------------------------------------------------------------------- whole trials
@EACH
def test_a_trial_is_tested_trained_saved_and_verified(family: str, sources_of: SourcesOf, tmp_path: Path) -> None:
    from peft import PeftModel

    sources = sources_of(family)
    engine, baseline = packed.plain_engine(sources), packed.short_baseline(packed.plain_engine, sources)
    depths = Placement(language=2, vision=2 if family in SEEING else 0)
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


def test_two_trials_train_one_after_another(sources_of: SourcesOf, tmp_path: Path) -> None:
    sources = sources_of("gemma3")
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
    family: str, quantization: str, sources_of: SourcesOf, tmp_path: Path
) -> None:
    sources = sources_of(family)
    spec = sources.spec(placement=Placement(language=1, vision=1 if family in SEEING else 0), quantization=quantization)
    engine = Engine.load(spec, torch.device("cpu"), resident="quantized")
    packed.shorten_evals(engine)
    linears = {f"{one.name}.weight" for blocks in engine.base.towers.values() for block in blocks for one in block}
    outside = {f"{name}.weight" for name in engine.base.family.outside(engine.base.config)}
    floats = {name for name, one in engine.base.model.named_parameters() if one.dtype == torch.float32}
    assert not floats & linears
    assert floats >= {*engine.base.family.weights(engine.base.config)} - linears - outside - {"lm_head.weight"}
    baseline = packed.short_baseline(packed.plain_engine, sources)
    record = whole_run(engine, spec, tmp_path / "trial", baseline, constraint=constraint_of(family))
    assert str(record.verdict()) == "completed"
