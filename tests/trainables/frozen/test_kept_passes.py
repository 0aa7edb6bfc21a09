"""Tests that a pass from kept activations equals each trial alone, in float64, and skips what is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
from frozen_room import keeping, kept_of
from small_trials import Sources, SpecMaker
from tiny_families import BLOCKS, LAYERS, TINY, TINY_TEXT, TINY_VISION, text_sources, vision_arms, write_base
from transformers import DynamicCache

from trainables.cohort.shared_forward import SharedForward
from trainables.data.encoding import Batch, collate
from trainables.data.packing import pack
from trainables.engine import Engine
from trainables.frozen.key import TrunkEnd
from trainables.frozen.store import Uses
from trainables.model.base import Base
from trainables.spec import Placement, TrialSpec

SourcesOf = Callable[[str], Sources]
GRADIENTS = 1e-10
MIXES: dict[str, list[tuple[int, int]]] = {
    "language": [(2, 0), (1, 0)],
    "unlike": [(1, 0), (3, 0), (0, 4)],
    "vision": [(0, 2), (1, 5)],
    "no layer": [(0, 2), (0, 5)],
    "whole": [(4, 0), (8, 0)],
    "all": [(8, 12), (1, 0)],
}


@pytest.fixture
def double() -> Iterator[None]:
    with packed.all_double():
        yield


def furthest_from_solo(
    engine: Engine, specs: Sequence[TrialSpec], batches: dict[str, Batch], share: bool = True
) -> float:
    """Return the largest difference of losses and gradients from a trial alone, computing everything twice."""
    solo = [packed.alone(engine, spec, batches) for spec in specs]
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs), share, engine.kept)
    worst = 0.0
    try:
        for kind, batch in [*batches.items(), *batches.items()]:
            for number, (loss, gradients) in packed.packed(shared, range(len(specs)), batch).items():
                alone, expected = solo[number][kind]
                assert math.isfinite(alone)
                worst = max(worst, abs(loss - alone), packed.furthest(gradients, expected))
    finally:
        shared.remove()
    return worst


def arms(make: SpecMaker, depths: Sequence[tuple[int, int]], **changes: Any) -> list[TrialSpec]:
    return [
        make(name=f"L{language}-V{vision}", placement=Placement(language=language, vision=vision), seed=number,
             dropout=(0.1, 0.0)[number % 2], rank=(4, 8, 1)[number % 3], **changes)
        for number, (language, vision) in enumerate(depths)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "mix",
    [pytest.param(one, marks=[pytest.mark.slow] * (one not in ("unlike", "vision", "no layer"))) for one in MIXES],
)
def test_gradients_from_kept_activations_equal_those_of_a_trial_alone(
    mix: str, sources: Sources, make_spec: SpecMaker, double: None
) -> None:
    engine = keeping(packed.double_engine(sources))
    assert furthest_from_solo(engine, arms(make_spec, MIXES[mix]), packed.batches(engine)) < GRADIENTS
    assert (kept_of(engine).store.uses.computed > 0) == (mix != "all"), "the first member of `all` adapts every block"


@pytest.mark.parametrize(
    "family", [pytest.param(one, marks=[pytest.mark.slow] * (one == "qwen2_vl")) for one in TINY_VISION]
)
@pytest.mark.parametrize(
    "depths", [[(1, 0), (LAYERS - 1, 0)], [(2, 0), (0, 3)], [(0, 2), (1, BLOCKS)], [(1, 1), (0, 4)]]
)
def test_every_vision_family_starts_from_kept_activations(
    family: str, depths: list[tuple[int, int]], vision_sources_of: SourcesOf, double: None
) -> None:
    sources = vision_sources_of(family)
    engine = keeping(packed.double_engine(sources))
    assert furthest_from_solo(engine, vision_arms(sources, depths), packed.batches(engine)) < GRADIENTS
    assert kept_of(engine).store.uses.computed > 0


def packed_rows(engine: Engine) -> Batch:
    """Return one packed batch of five rows of text in sequences of unlike lengths."""
    asked = ["What is two?", "What is two plus three?", "Is it red?", "What is two plus three plus five?", "Why?"]
    rows = [engine.encoder.conversation(packed.text_row(one, "five.")) for one in asked]
    return pack(rows, engine.base, 2 * max(len(row.tokens) for row in rows))


def test_packed_rows_gather_the_entries_of_padded_ones(sources: Sources, make_spec: SpecMaker, double: None) -> None:
    engine = keeping(packed.double_engine(sources))
    batch = packed_rows(engine)
    assert 1 < len(batch.labels) < len(batch.rows)
    padded = packed.collated([one.row for one in batch.rows], engine)
    specs = arms(make_spec, [(1, 0), (3, 0), (0, 2)])
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs), kept=engine.kept)
    shared.logits(padded, range(3))
    computed = kept_of(engine).store.uses.computed
    shared.logits(batch, range(3))
    shared.remove()
    assert kept_of(engine).store.uses.computed == computed
    assert furthest_from_solo(engine, specs, {"packed": batch}) < GRADIENTS


@pytest.mark.parametrize("family", [pytest.param(one, marks=[pytest.mark.slow] * (one != "gemma2")) for one in TINY])
def test_every_text_family_starts_from_kept_activations(family: str, tmp_path: Path, double: None) -> None:
    own = text_sources(tmp_path, write_base(family, tmp_path / "base"))
    engine = keeping(packed.double_engine(own))
    rows = [engine.encode(index, 2048) for index in range(4)]
    specs = [
        own.spec(name=f"L{depth}", placement=Placement(language=depth), dropout=0.1, seed=depth) for depth in (1, 3)
    ]
    assert furthest_from_solo(engine, specs, {"padded": packed.collated(rows, engine)}) < GRADIENTS
    assert kept_of(engine).store.uses.computed == 4


def test_a_batch_whose_longest_row_changes_the_rotations_of_all_is_not_kept(
    tmp_path: Path, double: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phi-3's long rotations: a short row beside a long one is not what it is alone."""
    parts = 8  # of a head of 16
    rotary = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * parts,
              "long_factor": [8.0] * parts}  # fmt: skip
    config = {"rope_parameters": rotary, "original_max_position_embeddings": 40}
    monkeypatch.setitem(TINY_TEXT, "phi3", replace(TINY["phi3"], config=config))
    own = text_sources(tmp_path, write_base("phi3", tmp_path / "base"))
    engine = keeping(packed.double_engine(own))
    short = engine.encoder.conversation(packed.text_row("Why?", "red."))
    long = engine.encode(0, 2048)
    assert len(short.tokens) <= 40 < len(long.tokens)
    specs = [own.spec(name="L1", placement=Placement(language=1))]
    both = {"both": packed.collated([short, long], engine)}
    assert furthest_from_solo(engine, specs, both) < GRADIENTS
    assert kept_of(engine).store.uses.computed == 0
    assert furthest_from_solo(engine, specs, {"short": packed.collated([short, short], engine)}) < GRADIENTS
    assert kept_of(engine).store.uses.computed == 1
    monkeypatch.setattr("trainables.frozen.kept.longest_rotation", lambda _: math.inf)  # the fault
    assert furthest_from_solo(engine, specs, both) > 1e-4


# -------------------------------------------------------------------- what is skipped, and what is planted
def test_a_pass_from_kept_activations_computes_no_block_below_its_cut(
    sources: Sources, make_spec: SpecMaker, double: None
) -> None:
    engine = keeping(packed.double_engine(sources))
    batch, specs = packed.batches(engine)["mixed"], arms(make_spec, [(1, 0), (3, 0), (0, 4), (8, 0)])
    patches, counts = len(batch.inputs["pixel_values"]), {}
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs), kept=engine.kept)
    for members in ((0, 1), (2,), (3,)):
        shared.logits(batch, members)
        with packed.counted(engine.base) as counts[members]:
            shared.logits(batch, members)
    shared.remove()
    assert counts[0, 1]["vision"] == [0] * 12
    assert [count > 0 for count in counts[0, 1]["language"]] == [False] * 5 + [True] * 3
    assert counts[2,]["vision"] == [0] * 8 + [patches] * 4
    assert counts[3,]["vision"] == [0] * 12 and 0 not in counts[3,]["language"]


def test_activations_of_another_row_are_caught(sources: Sources, make_spec: SpecMaker, double: None) -> None:
    """The fault: two rows have one key."""
    engine = keeping(packed.double_engine(sources))
    kept_of(engine)._key_of = lambda row: str(len(row.tokens))  # type: ignore[method-assign]
    specs, batch = arms(make_spec, [(1, 0)]), packed.batches(engine)["image"]
    assert len({len(one.row.tokens) for one in batch.rows}) == 1
    assert furthest_from_solo(engine, specs, {"image": batch}) > 1e-3


def test_activations_of_another_block_are_caught(sources: Sources, make_spec: SpecMaker, double: None) -> None:
    """The fault: the key has no place, so that a deeper pass is given what entered a higher block."""
    engine = keeping(packed.double_engine(sources))
    kept_of(engine)._trunk_key = lambda place: place.tower  # type: ignore[method-assign]
    batch = {"image": packed.batches(engine)["image"]}
    assert furthest_from_solo(engine, arms(make_spec, [(1, 0)]), batch) < GRADIENTS
    assert furthest_from_solo(engine, arms(make_spec, [(3, 0)]), batch) > 1e-3


def test_a_base_that_is_random_in_training_keeps_nothing(sources: Sources, make_spec: SpecMaker, double: None) -> None:
    engine = keeping(packed.double_engine(sources))
    text = engine.base.model.config.text_config
    text.attention_dropout = 0.1
    try:
        shared = SharedForward(engine.base, packed.lifted(engine.base, arms(make_spec, [(1, 0)])), kept=engine.kept)
        shared.logits(packed.batches(engine)["image"], [0])
        shared.remove()
    finally:
        text.attention_dropout = 0.0
    assert kept_of(engine).store.uses == Uses()


def test_a_frozen_update_below_lowers_the_cut(sources: Sources, make_spec: SpecMaker, double: None) -> None:
    engine = keeping(packed.double_engine(sources))
    adapters = packed.lifted(engine.base, arms(make_spec, [(1, 0), (3, 0)]))
    for _, parameter in adapters[1].trained():
        parameter.requires_grad_(False)
    shared = SharedForward(engine.base, adapters, kept=engine.kept)
    start = kept_of(engine).start(packed.batches(engine)["image"], shared.differing, (0, 1))
    shared.remove()
    assert start is not None and start.place == TrunkEnd("language", 5)


# -------------------------------------------------------------------- bits do not depend on what was kept
def logits_of(engine: Engine, specs: Sequence[TrialSpec], batches: Sequence[Batch]) -> list[torch.Tensor]:
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs), kept=engine.kept)
    try:
        with torch.no_grad():
            return [shared.logits(batch, range(len(specs))).values for batch in batches]
    finally:
        shared.remove()


def same(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("depths", [[(1, 0), (3, 0)], [(0, 3), (2, 5)]])
def test_cold_warm_and_read_passes_are_equal_to_the_last_bit(
    depths: list[tuple[int, int]], sources: Sources, make_spec: SpecMaker, tmp_path: Path
) -> None:
    plain, specs = packed.plain_engine(sources), arms(make_spec, depths)
    batches = [*packed.batches(plain).values(), packed_rows(plain)]
    first = keeping(plain, directory=tmp_path)
    cold, warm = logits_of(first, specs, batches), logits_of(first, specs, batches[::-1])[::-1]
    from_files, in_memory = keeping(plain, directory=tmp_path), keeping(plain)
    assert same(cold, warm)
    assert same(cold, logits_of(from_files, specs, batches)) and kept_of(from_files).store.uses.from_file > 0
    assert kept_of(from_files).store.uses.computed == 0
    assert same(cold, logits_of(in_memory, specs, batches[::-1])[::-1])


def test_rows_over_the_budget_are_equal_to_the_last_bit(sources: Sources, make_spec: SpecMaker, tmp_path: Path) -> None:
    plain, specs = packed.plain_engine(sources), arms(make_spec, [(1, 0), (3, 0)])
    batches = [*packed.batches(plain).values()]
    nothing, little = keeping(plain, memory_bytes=0), keeping(plain, memory_bytes=80_000)
    files = keeping(plain, 0, tmp_path, 80_000)
    expected = logits_of(keeping(plain), specs, batches)
    for engine in (nothing, little, files):
        assert same(expected, logits_of(engine, specs, batches)) and same(expected, logits_of(engine, specs, batches))
    assert kept_of(nothing).store.uses.from_memory == 0 < kept_of(little).store.uses.from_memory
    assert kept_of(files).store.uses.from_file > 0
    assert sum(one.stat().st_size for one in tmp_path.glob("*/*.safetensors")) <= 80_000


def test_a_damaged_file_changes_no_result(sources: Sources, make_spec: SpecMaker, tmp_path: Path) -> None:
    plain, specs = packed.plain_engine(sources), arms(make_spec, [(1, 0)])
    batches = [packed.batches(plain)["image"]]
    expected = logits_of(keeping(plain, directory=tmp_path), specs, batches)
    for path in tmp_path.glob("*/*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 64
        path.unlink()
        path.write_bytes(content)
    again = keeping(plain, directory=tmp_path)
    assert same(expected, logits_of(again, specs, batches))
    assert kept_of(again).store.uses.from_file == 0 < kept_of(again).store.uses.computed


def test_rows_of_one_trial_are_kept_in_no_file(sources: Sources, make_spec: SpecMaker, tmp_path: Path) -> None:
    plain, specs = packed.plain_engine(sources), arms(make_spec, [(1, 0)])
    rows = [replace(plain.encode(index, 2048), lasting=False) for index in (0, 1)]
    engine = keeping(plain, directory=tmp_path)
    one, other = logits_of(engine, specs, [packed.collated(rows, engine)] * 2)
    assert torch.equal(one, other) and not list(tmp_path.glob("*/*.safetensors"))
    assert kept_of(engine).store.memory.lasting_bytes == 0 < kept_of(engine).store.uses.from_memory


def test_a_prefill_reads_its_pictures_from_kept_activations(
    sources: Sources, make_spec: SpecMaker, double: None
) -> None:
    engine = keeping(packed.double_engine(sources))
    prompts = [one for one in engine.evaluator.prompts if one.views][:3]
    batch = collate(prompts, engine.encoder, engine.base.device, pad_left=True)
    for depths in ([(1, 0), (3, 0)], [(1, 0), (0, 4)]):
        shared = SharedForward(engine.base, packed.lifted(engine.base, arms(make_spec, depths)), kept=engine.kept)
        found = []
        for rows in ((), batch.rows, batch.rows):
            with torch.no_grad(), packed.counted(engine.base) as counts:
                out, groups = shared.prefill(batch.inputs, (0, 1), DynamicCache(), rows)
            found.append((out.logits, groups, sum(counts["vision"])))
        shared.remove()
        assert all(torch.allclose(one[0], found[0][0], atol=1e-10) and one[1] == found[0][1] for one in found)
        assert found[2][2] < found[0][2]


@pytest.mark.parametrize("trains", [True, False])
def test_int8_starts_from_what_it_computes_in_the_mode_of_the_pass(
    trains: bool, sources: Sources, make_spec: SpecMaker, own_base: Callable[..., Base]
) -> None:
    """On a CPU bitsandbytes multiplies dequantized weights in train mode, and int8 activations in eval mode."""
    base = own_base("int8")
    engine = keeping(Engine.on(base, make_spec(quantization="int8")))
    [spec] = arms(make_spec, [(1, 0)], quantization="int8")
    adapters = packed.lifted(base, [spec.model_copy(update={"dropout": 0.0})])
    batch = packed.collated([engine.encode(0, 2048)], engine)  # outliers are those of all rows of a batch

    def values(kept: bool, in_training: bool) -> torch.Tensor:
        shared = SharedForward(base, adapters, kept=engine.kept if kept else None)
        with torch.no_grad():
            base.model.train(in_training)
            found = shared.logits(batch, [0]).values
            base.model.eval()
        shared.remove()
        return found

    values(kept=True, in_training=not trains)  # entries of the other mode are at hand
    own, expected, other = values(True, trains), values(False, trains), values(False, not trains)
    between_modes = float((expected - other).abs().max())
    assert float((own - expected).abs().max()) < between_modes / 4
