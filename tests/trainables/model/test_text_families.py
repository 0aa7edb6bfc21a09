"""Tests text-only decoders of every family against their classes in transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
from small_trials import Sources, opened, whole_run
from tiny_families import TINY, WINDOW, text_sources, write_base
from together import Together, Watched, apart
from torch.nn.functional import cross_entropy

from trainables.checkpoints.verification import verify
from trainables.cohort.evaluator import CohortEvaluator
from trainables.cohort.shared_forward import SharedForward
from trainables.constraint import TextConstraint
from trainables.data.encoding import Batch, Encoder, collate, until_end
from trainables.data.rows import Message, Row
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.evaluation.evaluator import label_logits
from trainables.health import eval_integrity
from trainables.io.files import read_json
from trainables.model.base import Base, load_tokenizer, predicted
from trainables.model.families import FAMILIES as FAMILY_TABLE
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.selftest.reload import Reloader
from trainables.selftest.run import SELFTEST_FILE, SelfTest
from trainables.spec import Placement, TrialSpec

FAMILIES = pytest.mark.parametrize("family", TINY)


def families(*quick: str) -> pytest.MarkDecorator:
    """Run a test on every family; all but the `quick` ones are marked slow."""
    return pytest.mark.parametrize(
        "family", [pytest.param(one, marks=() if one in quick else pytest.mark.slow) for one in TINY]
    )


GRADIENTS, CURVES, LOUD = 1e-10, 1e-8, 0.6
SEEN_METRICS = {"irrelevant_pass", "hallucination", "blindness", "caption_sanity", "crop_consistency"}
ANY_TEXT = TextConstraint(max_text_retention_drop=1.0)
SourcesOf = Callable[[str], Sources]


@pytest.fixture(scope="session")
def sources_of(tmp_path_factory: pytest.TempPathFactory) -> SourcesOf:
    """Make the tiny base of a family, and rows of text, once."""
    made: dict[str, Sources] = {}

    def make(family: str) -> Sources:
        if family not in made:
            directory = tmp_path_factory.mktemp(family)
            made[family] = text_sources(directory, write_base(family, directory / "base"))
        return made[family]

    return make


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    softmax = torch.nn.functional.softmax

    def wide(scores: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return softmax(scores, dim, dtype=None if scores.dtype == torch.float64 else dtype)

    # attention written out asks for float32 by name, to which a float64 mask's least number is minus infinity
    monkeypatch.setattr(torch.nn.functional, "softmax", wide)
    with packed.all_double():
        yield


def arm(sources: Sources, language: int, **changes: Any) -> TrialSpec:
    named = {"name": f"L{language}", "placement": Placement(language=language), "seed": language}
    return sources.spec(**named | changes)


def four_arms(sources: Sources) -> list[TrialSpec]:
    return [
        arm(sources, language, rank=(4, 8, 1, 6)[language % 4], dropout=(0.1, 0.0)[language % 2], seed=language + 4)
        for language in (4, 1, 2, 3)
    ]


def baseline_of(engine: Engine) -> Baseline:
    return Baseline(engine.evaluator.measure(None)[0].metrics, {})


# -------------------------------------------------------------------- rows become tokens
@FAMILIES
def test_a_row_becomes_the_tokens_that_transformers_gives_it(family: str, sources_of: SourcesOf) -> None:
    """No token is doubled or lost, and the whole answer is supervised."""
    engine = packed.plain_engine(sources_of(family))
    encoder, row = engine.encoder, engine.train[0]
    encoded = encoder.conversation(row)
    turns = [{"role": one.role, "content": one.text} for one in row.messages]
    theirs = encoder.tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, enable_thinking=False)
    closed = encoder.tokenizer.convert_tokens_to_ids([TINY[family].end] * bool(encoder.family.answer_ends))
    assert encoded.tokens == theirs + closed
    assert encoder.prompt(row.prompt, ()).tokens == encoded.tokens[: len(encoder.prompt(row.prompt, ()).tokens)]
    supervised = encoder.tokenizer.decode([label for label in encoded.labels if label >= 0])
    assert supervised.strip() == row.answer + TINY[family].end
    assert len(encoded.tokens) > 2 * WINDOW  # or the sliding windows of these tests hold everything


@FAMILIES
def test_an_answer_ends_at_the_token_of_the_template_and_at_the_tokenizers_own(
    family: str, sources_of: SourcesOf
) -> None:
    encoder, tiny = packed.plain_engine(sources_of(family)).encoder, TINY[family]
    ends = encoder.tokenizer.convert_ids_to_tokens(list(encoder.answer_ends))
    assert ends == list(dict.fromkeys([tiny.eos, tiny.end]))
    assert encoder.tokenizer.pad_token == (tiny.pad or tiny.eos)


def test_a_template_that_refuses_a_turn_is_a_named_problem(sources_of: SourcesOf) -> None:
    turns = (Message("system", "Be brief."), Message("user", "What?"), Message("assistant", "red."))
    with pytest.raises(
        UserError, match=r"row `x`: the chat template of base must accept its turns \(system, user"
    ) as output:
        packed.plain_engine(sources_of("gemma")).encoder.conversation(Row("x", turns, ()))
    assert "System role not supported" in output.value.message
    assert "first user turn" in (output.value.hint or "")


def test_a_picture_for_a_base_that_takes_none_names_the_row(sources_of: SourcesOf) -> None:
    encoder = packed.plain_engine(sources_of("llama")).encoder
    seen = Row("x", (Message("user", "<image>What?"), Message("assistant", "red.")), (Path("x.png"),))
    with pytest.raises(
        UserError, match="row `x`: base has no vision tower, so a row must have no pictures, but it has 1"
    ):
        encoder.conversation(seen)
    with pytest.raises(UserError, match=r"prompt `<image>What\?`: base has no vision tower"):
        encoder.prompt(seen.prompt, seen.images)


def test_a_tokenizer_without_a_chat_template_cannot_hold_a_conversation(sources_of: SourcesOf) -> None:
    base = packed.plain_engine(sources_of("llama")).base
    tokenizer = load_tokenizer(base.path)
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="a conversation needs a chat template, but the tokenizer of base has none"):
        Encoder(replace(base, tokenizer=tokenizer)).prompt((Message("user", "What?"),), ())


# -------------------------------------------------------------------- logits
@FAMILIES
def test_the_loss_equals_the_models_own(family: str, sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sources_of(family))
    batch = collate([engine.encode(index, 512) for index in range(4)], engine.encoder, engine.base.device, False)
    with torch.no_grad():
        logits, targets = label_logits(engine.base, batch)
        theirs = engine.base.model(**batch.inputs, labels=batch.labels).loss
    assert float(cross_entropy(logits, targets)) == pytest.approx(float(theirs), abs=1e-5)


def test_capped_logits_are_not_the_heads_alone(sources_of: SourcesOf) -> None:
    base = packed.plain_engine(sources_of("gemma2")).base
    hidden = 9.0 * torch.ones(1, base.model.config.hidden_size)
    with torch.no_grad():
        capped, bare = predicted(base, hidden), base.model.lm_head(hidden)
    limit = base.model.config.final_logit_softcapping
    assert float(bare.abs().max()) > limit >= float(capped.abs().max())


# -------------------------------------------------------------------- packed equals solo
def text_batches(engine: Engine) -> dict[str, Batch]:
    rows = [engine.encode(index, 512) for index in range(3)]
    short = engine.encoder.conversation(packed.text_row("What?", "red."))
    return {"even": packed.collated([rows[0], rows[0]], engine), "padded": packed.collated([rows[1], short], engine)}


def furthest_from_solo(engine: Engine, specs: list[TrialSpec], share: bool, batches: dict[str, Batch]) -> float:
    solo = [packed.alone(engine, spec, batches) for spec in specs]
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs), share)
    worst = 0.0
    try:
        for kind, batch in batches.items():
            for number, (loss, gradients) in packed.packed(shared, range(len(specs)), batch).items():
                alone, expected = solo[number][kind]
                assert math.isfinite(alone)  # no difference of what is no number is large
                worst = max(worst, abs(loss - alone), packed.furthest(gradients, expected))
    finally:
        shared.remove()
    return worst


@families("gemma2", "mistral")
@pytest.mark.parametrize("share", [True, False])
def test_gradients_packed_equal_those_of_a_trial_alone(
    family: str, share: bool, sources_of: SourcesOf, double: None
) -> None:
    engine = packed.double_engine(sources_of(family))
    assert furthest_from_solo(engine, four_arms(sources_of(family)), share, text_batches(engine)) < GRADIENTS


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "gemma3_text"])
def test_one_mask_for_all_blocks_is_caught(
    family: str, sources_of: SourcesOf, double: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: blocks with and without a sliding window are given the arguments of the first one that was widened."""
    widened, first = SharedForward._for_groups, {}  # type: ignore[var-annotated]

    def of_the_first(shared: SharedForward, given: Any, count: int) -> Any:
        kind = given.dim() if isinstance(given, torch.Tensor) else type(given)
        return first.setdefault((count, kind), widened(shared, given, count))

    monkeypatch.setattr(SharedForward, "_for_groups", of_the_first)
    engine = packed.double_engine(sources_of(family))
    # apart from the first block on, and both with a graph
    specs = [arm(sources_of(family), 4, name=name, seed=seed) for seed, name in enumerate("ab")]
    batches = {"padded": text_batches(engine)["padded"]}
    assert furthest_from_solo(engine, specs, True, batches) > GRADIENTS


@families("gemma3_text", "llama")
def test_members_measure_what_they_measure_alone(family: str, sources_of: SourcesOf, double: None) -> None:
    engine = packed.double_engine(sources_of(family))
    baseline = packed.short_baseline(packed.double_engine, sources_of(family))
    assert not SEEN_METRICS & baseline.metrics.keys() and "text_retention" in baseline.metrics
    specs = four_arms(sources_of(family))
    solo = packed.measured_alone(engine, specs, baseline, LOUD)
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs, LOUD))
    try:
        measured = CohortEvaluator(engine.evaluator, shared).measure(dict.fromkeys(range(4), baseline), 1)
    finally:
        shared.remove()
    packed.assert_measured_alike(measured, solo)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_every_decoder_stops_at_every_token_that_ends_an_answer(
    family: str, sources_of: SourcesOf, double: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third generated token becomes an end token: every decoder must return the tokens before it."""
    engine = packed.double_engine(sources_of(family))
    evaluator, encoder = engine.evaluator, engine.encoder
    monkeypatch.setattr(evaluator, "max_new_tokens", 8)
    question = evaluator.questions[:1]
    with eval_integrity.Witness(engine.base.model, encoder.tokenizer, (), ()) as witness:
        evaluator.ask(question)
    spoken = [int(token) for token in witness._batches[0]]
    end = spoken[2]
    monkeypatch.setitem(vars(encoder.conversations), "answer_ends", (*encoder.answer_ends, end))
    expected = encoder.tokenizer.decode(until_end(spoken, (end,)), skip_special_tokens=True).strip()
    with eval_integrity.witness_of(evaluator) as witness:
        alone = evaluator.ask(question)
    shared = SharedForward(engine.base, packed.lifted(engine.base, [arm(sources_of(family), 1)], noise=0.0))
    try:
        together = CohortEvaluator(evaluator, shared).ask(0, question)
    finally:
        shared.remove()
    assert list(alone.values()) == list(together.values()) == witness.answers() == [expected]
    assert witness.forwards == spoken.index(end) + 1


# -------------------------------------------------------------------- whole trials
def updates(record: Record) -> Mapping[str, Any]:
    from safetensors.torch import load_file

    return load_file(record.checkpoint(record.checkpoint_steps()[0]) / "adapter_model.safetensors")


@families("qwen2")
def test_a_cohort_trains_as_its_trials_do_alone(
    family: str, sources_of: SourcesOf, tmp_path: Path, double: None
) -> None:
    sources = sources_of(family)
    engine, baseline = packed.double_engine(sources), packed.short_baseline(packed.double_engine, sources)
    specs = [arm(sources, 1), arm(sources, 3, rank=2, dropout=0.1)]
    solo = Watched(engine, baseline, tmp_path / "alone")
    for spec in specs:
        solo.alone(spec)
    cohort = Together(engine, baseline, tmp_path / "together", specs).finish()
    for spec in specs:
        assert cohort.ends[spec.name] == "completed"
        assert apart(solo.curves[spec.name], cohort.watched.curves[spec.name]) < CURVES
        own, other = updates(Record(tmp_path / "alone" / spec.name)), updates(cohort.record(spec.name))
        assert own.keys() == other.keys()
        assert max(float((own[key] - other[key]).abs().max()) for key in own) < CURVES


@families("gemma2")
def test_a_trial_is_tested_trained_saved_and_verified(family: str, sources_of: SourcesOf, tmp_path: Path) -> None:
    import transformers
    from peft import PeftModel

    sources = sources_of(family)
    engine, spec = packed.plain_engine(sources), arm(sources, 2, learning_rate=2e-2, dropout=0.0)
    record = Record(tmp_path / "trial")
    with opened(engine, spec, record.directory, baseline_of(engine), constraint=ANY_TEXT) as trial:
        trial.selftest = SelfTest(engine)
        while trial.advance(lambda: False) is None:
            pass
        batch = text_batches(engine)["padded"]
        with torch.no_grad():
            live, _ = label_logits(engine.base, batch)
    assert str(record.verdict()) == "completed", record.verdict()
    assert list(read_json(record.directory / SELFTEST_FILE)["batches"]) == ["text"]
    losses = [one.metrics["train_loss"] for one in record.evals()]
    assert losses[-1] < baseline_of(engine).metrics["train_loss"]
    checkpoint = record.checkpoint(spec.steps)
    assert verify(checkpoint).passed, verify(checkpoint)
    untouched = getattr(transformers, FAMILY_TABLE[family].model_class).from_pretrained(sources.base.path)
    plain = PeftModel.from_pretrained(untouched, str(checkpoint))
    loaded = Base(**{**vars(engine.base), "model": plain.get_base_model()})
    with torch.no_grad():
        theirs, _ = label_logits(loaded, batch)
    assert torch.allclose(live, theirs, atol=1e-5)


@pytest.mark.slow
def test_another_process_loads_what_a_text_base_saved(sources_of: SourcesOf, tmp_path: Path) -> None:
    sources = sources_of("qwen3")
    engine, spec = packed.plain_engine(sources), arm(sources, 1, learning_rate=2e-2)
    reloader = Reloader(spec, "cpu")
    with closing(reloader), opened(engine, spec, tmp_path / "trial", baseline_of(engine), constraint=ANY_TEXT) as trial:
        trial.selftest = SelfTest(engine, reloader)
        assert trial.check_before_training() is None
    assert read_json(tmp_path / "trial" / SELFTEST_FILE)["reload"]["failure"] is None


def test_a_run_leaves_a_best_adapter_and_labels_without_pictures(sources_of: SourcesOf, tmp_path: Path) -> None:
    sources = sources_of("qwen2")
    engine = packed.plain_engine(sources)
    record = whole_run(engine, arm(sources, 2), tmp_path / "trial", baseline_of(engine), constraint=ANY_TEXT)
    assert record.best() is not None
    rules = [one["rule"] for one in read_json(record.directory / "labels.json")["optimal"]["criteria"]]
    assert not any("blindness" in rule for rule in rules)


@pytest.mark.parametrize("quantization", ["nf4-double", pytest.param("int8", marks=pytest.mark.slow)])
def test_a_quantized_text_base_trains(quantization: str, sources_of: SourcesOf, tmp_path: Path) -> None:
    sources = sources_of("qwen3")
    spec = arm(sources, 2, quantization=quantization)
    engine = Engine.load(spec, torch.device("cpu"))
    record = whole_run(engine, spec, tmp_path / "trial", baseline_of(engine), constraint=ANY_TEXT)
    assert str(record.verdict()) == "completed"
