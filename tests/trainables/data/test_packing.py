"""Tests that packed rows have the loss and gradients of separate rows, and that a leak between rows is found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from small_trials import Sources, SpecMaker
from tiny_families import TINY, text_sources, write_base
from together import Together, Watched, apart
from torch.nn.functional import cross_entropy

from trainables.cohort.shared_forward import SharedForward
from trainables.data.encoding import Batch, Encoded, Encoder, collate
from trainables.data.formats import COMPLETION
from trainables.data.packing import bins, pack
from trainables.data.rows import Message, Row
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.evaluation.evaluator import label_logits
from trainables.model.base import Base, load_base
from trainables.probes.captions import captions
from trainables.probes.probe import Baseline
from trainables.spec import Placement, TrialSpec

EXACT = 1e-10
ASKED = ("What is two plus three?", "Say red.", "Name a colour, and then another one, please.", "Hi?")


# -------------------------------------------------------------------- the bins
@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40), room=st.integers(50, 120))
def test_every_row_is_in_one_bin_and_no_bin_is_too_full(lengths: list[int], room: int) -> None:
    filled = bins(lengths, room)
    assert sorted(number for one in filled for number in one) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in one) <= room for one in filled)
    assert filled == bins(lengths, room)
    # of two bins, one is more than half full, or they would be one
    assert sum(sum(lengths[number] for number in one) * 2 <= room for one in filled) <= 1


def test_bins_at_the_edge() -> None:
    assert bins([3, 5, 2, 4], 7) == [[1, 2], [3, 0]]
    assert bins([7], 7) == [[0]]
    with pytest.raises(ValueError, match="a row must fit 6 tokens, but the longest has 7"):
        bins([7], 6)


# -------------------------------------------------------------------- one family after the other
@dataclass(frozen=True)
class Texts:
    """Text rows of four lengths on one base in float64, padded and packed."""

    base: Base
    encoder: Encoder
    rows: list[Encoded]

    def padded(self) -> Batch:
        return collate(self.rows, self.encoder, self.base.device, pad_left=False)

    def packed(self, room: int = 0) -> Batch:
        return pack(self.rows, self.base, room or sum(len(row.tokens) for row in self.rows))


def texts(base: Base) -> Texts:
    encoder = Encoder(base)
    rows = [Row("r", (Message("user", asked), Message("assistant", "five, and five")), ()) for asked in ASKED]
    rows.append(Row("t", (Message(COMPLETION, "red or blue"),), ()))  # its very first token is supervised
    return Texts(base, encoder, [encoder.conversation(row) for row in rows])


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def load(family: str, attention: str = "sdpa") -> Texts:
        base = load_base(write_base(family, tmp_path_factory.mktemp(family)), "none", "float32", torch.device("cpu"))
        base.model.set_attn_implementation(attention)
        base.model.double()
        return texts(base)

    return load


def loss_and_gradients(base: Base, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the summed loss and its gradient for the language layers' linears."""
    names = [linear.name for block in base.towers["language"] for linear in block]
    weights = {name: base.model.get_submodule(name).weight.requires_grad_() for name in names}
    try:
        logits, targets = label_logits(base, batch)
        loss = cross_entropy(logits, targets, reduction="sum")
        found = torch.autograd.grad(loss, list(weights.values()))
        return float(loss.detach()), dict(zip(names, found, strict=True))
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)


def difference(base: Base, batch: Batch, other: Batch) -> tuple[float, float]:
    """Return by how much the losses differ, and the gradients, relative to the largest."""
    (loss, own), (against, expected) = loss_and_gradients(base, batch), loss_and_gradients(base, other)
    furthest = max(float((own[name] - expected[name]).abs().max() / expected[name].abs().max()) for name in own)
    return abs(loss - against), furthest


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Any:
    softmax = torch.nn.functional.softmax  # eager attention asks it for float32 by name
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda scores, dim, **_: softmax(scores, dim=dim))
    with packed.all_double():
        yield


@pytest.mark.parametrize(
    ("family", "attention"),
    [*((family, "sdpa") for family in TINY if family != "gemma2"), ("gemma2", "eager"), ("qwen2", "eager")],
)
def test_every_family_computes_packed_rows_as_if_alone(
    family: str, attention: str, families: Any, double: None
) -> None:
    """Grouped keys, windows shorter than the rows, capped logits: for each, in one sequence and in several."""
    one = families(family, attention)
    padded = one.padded()
    room = max(len(row.tokens) for row in one.rows) + 20
    assert len(one.packed().labels) == 1 < len(one.packed(room).labels) < len(one.rows)
    for batch in (one.packed(), one.packed(room)):
        assert batch.supervised_tokens == padded.supervised_tokens
        loss, gradients = difference(one.base, batch, padded)
        assert loss < EXACT
        assert gradients < EXACT


def unmasked(batch: Batch) -> Batch:
    """Plant the fault: a mask of ones, under which a row sees those before it."""
    return replace(batch, inputs={**batch.inputs, "attention_mask": torch.ones_like(batch.inputs["input_ids"])})


def counted_on(batch: Batch) -> Batch:
    """Plant the fault: positions that continue from row to row, so that all rows are one."""
    tokens = batch.inputs["input_ids"]
    return replace(batch, inputs={"input_ids": tokens, "position_ids": torch.arange(tokens.shape[1]).expand_as(tokens)})


def predicting_across(batch: Batch) -> Batch:
    """Plant the fault: the first token of a row is predicted from the row before."""
    first = (batch.inputs["position_ids"] == 0) & (torch.arange(batch.labels.shape[1]) > 0)
    return replace(batch, labels=torch.where(first, batch.inputs["input_ids"], batch.labels))


@pytest.mark.parametrize("plant", [unmasked, counted_on, predicting_across])
@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_a_leak_between_rows_is_seen(family: str, plant: Any, families: Any, double: None) -> None:
    one = families(family)
    loss, _ = difference(one.base, plant(one.packed()), one.padded())
    assert loss > 1e-3


# -------------------------------------------------------------------- the base that sees
def test_rows_of_text_are_packed_on_a_base_that_sees(sources: Sources, double: None) -> None:
    engine = packed.double_engine(sources)
    one = texts(engine.base)
    loss, gradients = difference(engine.base, one.packed(), one.padded())
    assert loss < EXACT
    assert gradients < EXACT
    assert difference(engine.base, unmasked(one.packed()), one.padded())[0] > 1e-3


def test_rows_with_pictures_are_refused(engine: Engine) -> None:
    with pytest.raises(UserError, match="packs rows of text, but a row of this step shows a picture"):
        pack([engine.encode(0, 2048)], engine.base, 2048)


def test_attention_that_would_not_keep_rows_apart_is_refused(families: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = families("llama")
    monkeypatch.setattr(one.base.model.config, "_attn_implementation_internal", "flash_attention_2")
    with pytest.raises(UserError, match=r"needs attention of sdpa or eager, but .* runs flash_attention_2"):
        one.packed()


# -------------------------------------------------------------------- trials
@pytest.fixture(scope="module")
def text_engine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Sources, Baseline]:
    directory = tmp_path_factory.mktemp("text")
    written = text_sources(directory, write_base("qwen3", directory / "base"))
    torch.set_num_threads(1)
    engine = Engine.load(written.spec(placement=Placement(language=2)), torch.device("cpu"))
    engine.base.model.double()
    packed.shorten_evals(engine)
    with packed.all_double():
        scores, answers = engine.evaluator.measure(None)
    return engine, written, Baseline(scores.metrics, captions(engine.evaluator.data, answers), scores.counts)


def specs_of(written: Sources, **changes: Any) -> list[TrialSpec]:
    common = {"max_tokens": 64, "batch_rows": 4, "accumulation_steps": 2, "steps": 3, "eval_every_steps": 3, **changes}
    return [written.spec(name=f"L{depth}", placement=Placement(language=depth), **common) for depth in (1, 3)]


def curves(trained: tuple[Engine, Sources, Baseline], directory: Path, **changes: Any) -> dict[str, list[float]]:
    engine, written, baseline = trained
    watched = Watched(engine, baseline, directory)
    for spec in specs_of(written, **changes):
        watched.alone(spec)
    return watched.curves


def test_a_packed_trial_takes_the_steps_of_a_padded_one(
    text_engine: tuple[Engine, Sources, Baseline], tmp_path: Path, double: None
) -> None:
    padded = curves(text_engine, tmp_path / "padded", dropout=0.0)
    joined = curves(text_engine, tmp_path / "packed", dropout=0.0, packed_tokens=128)
    for name, curve in padded.items():
        assert apart(joined[name], curve) < 1e-8
        assert len(set(curve)) == len(curve) == 3  # three steps, none like another


@pytest.mark.slow
def test_a_cohort_packs_too(text_engine: tuple[Engine, Sources, Baseline], tmp_path: Path, double: None) -> None:
    """With dropout: its masks are drawn for the packed shape, alone as in a cohort."""
    engine, written, baseline = text_engine
    alone = curves(text_engine, tmp_path / "alone", dropout=0.1, packed_tokens=128)
    specs = specs_of(written, dropout=0.1, packed_tokens=128)
    cohort = Together(engine, baseline, tmp_path / "together", specs).finish()
    assert cohort.watched.curves.keys() == alone.keys()
    assert all(apart(curve, alone[name]) < 1e-8 for name, curve in cohort.watched.curves.items())


def test_a_cohorts_pass_over_packed_rows_equals_the_padded_one(
    text_engine: tuple[Engine, Sources, Baseline], double: None
) -> None:
    engine, written, _ = text_engine
    one = texts(engine.base)
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs_of(written, dropout=0.0)))
    try:
        padded, joined = (packed.packed(shared, (0, 1), batch) for batch in (one.padded(), one.packed()))
    finally:
        shared.remove()
    for number, (loss, gradients) in padded.items():
        assert abs(joined[number][0] - loss) < EXACT
        assert packed.furthest(joined[number][1], gradients) < EXACT


def test_the_engine_packs_what_the_spec_asks_for(text_engine: tuple[Engine, Sources, Baseline]) -> None:
    engine, written, _ = text_engine
    padded, joined = specs_of(written)[0], specs_of(written, packed_tokens=128)[0]
    of_padded, of_joined = (engine.batches(engine.row_stream(one, 0), one, 0) for one in (padded, joined))
    assert [len(batch.labels) for batch in of_padded] == [4, 4]
    assert all(len(batch.labels) < 4 and batch.labels.shape[1] <= 128 for batch in of_joined)
    assert [one.supervised_tokens for one in of_joined] == [one.supervised_tokens for one in of_padded]


def test_a_sequence_must_hold_the_longest_row(make_spec: SpecMaker) -> None:
    assert make_spec(max_tokens=64, packed_tokens=64).packed_tokens == 64
    with pytest.raises(ValidationError, match="packed_tokens must be 0 or at least max_tokens = 64"):
        make_spec(max_tokens=64, packed_tokens=63)


def test_a_padded_trial_keeps_the_id_it_had(make_spec: SpecMaker) -> None:
    assert "packed_tokens" not in make_spec().identity()
    assert make_spec(packed_tokens=2048).identity()["packed_tokens"] == 2048
