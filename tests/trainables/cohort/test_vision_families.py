"""Tests families with a vision tower: trials computed together equal trials computed alone.

The pictures of a batch have different sizes, so windows of the vision tower are whole, partial and single.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
from small_trials import Sources
from tiny_families import (
    BLOCKS,
    LAYERS,
    PATCH_PIXELS,
    TAPS,
    TINY_VISION,
    WINDOW_PIXELS,
    picture_sources,
    vision_arms,
    write_vision_base,
)
from together import Together, Watched, apart
from torch.nn.functional import cross_entropy

from trainables.cohort.evaluator import CohortEvaluator
from trainables.cohort.shared_forward import SharedForward
from trainables.cohort.shared_prefix import common_tokens
from trainables.data.encoding import Batch, collate
from trainables.data.packing import pack
from trainables.engine import Engine
from trainables.evaluation.evaluator import label_logits
from trainables.model.base import Base
from trainables.model.families import FAMILIES
from trainables.record import Record
from trainables.spec import TrialSpec

# Qwen2-VL differs least from another family, so it runs with the slow tests
EACH_FAMILY = pytest.mark.parametrize(
    "family", [pytest.param(one, marks=[pytest.mark.slow] * (one == "qwen2_vl")) for one in TINY_VISION]
)
WITHOUT_DEEPSTACK = pytest.mark.parametrize("family", ["qwen2_5_vl", pytest.param("qwen2_vl", marks=pytest.mark.slow)])
SourcesOf = Callable[[str], Sources]
GRADIENTS, CURVES, LOUD = 1e-10, 1e-8, 0.6


@pytest.fixture
def double() -> Iterator[None]:
    with packed.all_double():
        yield


# -------------------------------------------------------------------- packed equals solo
def furthest_from_solo(
    engine: Engine, specs: Sequence[TrialSpec], kinds: Sequence[str] = ("image", "text", "mixed"), share: bool = True,
    prepare: Callable[[SharedForward], object] = lambda _: None,
) -> float:  # fmt: skip
    """Return the largest difference of losses and gradients between a shared pass and each trial alone."""
    batches = {kind: batch for kind, batch in packed.batches(engine).items() if kind in kinds}
    solo = [packed.alone(engine, spec, batches) for spec in specs]
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs), share)
    prepare(shared)
    worst = 0.0
    try:
        for kind, batch in batches.items():
            for number, (loss, gradients) in packed.packed(shared, range(len(specs)), batch).items():
                alone, expected = solo[number][kind]
                assert math.isfinite(alone)  # no difference to a NaN is large
                worst = max(worst, abs(loss - alone), packed.furthest(gradients, expected))
    finally:
        shared.remove()
    return worst


@EACH_FAMILY
@pytest.mark.parametrize("share", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_gradients_packed_equal_those_of_a_trial_alone(
    family: str, share: bool, vision_sources_of: SourcesOf, double: None
) -> None:
    engine, specs = packed.double_engine(vision_sources_of(family)), vision_arms(vision_sources_of(family))
    assert furthest_from_solo(engine, specs, share=share) < GRADIENTS


@WITHOUT_DEEPSTACK
@pytest.mark.parametrize(
    "depths",
    [[(2, 0), (1, 0)], [(0, 2), (0, 5)], [(4, 0), (0, 1)], [(1, 6), (3, 6), (0, 1), (4, 0)]],
    ids=["language", "vision", "one each", "both"],
)
def test_gradients_of_placements_equal_those_of_a_trial_alone(
    family: str, depths: list[tuple[int, int]], vision_sources_of: SourcesOf, double: None
) -> None:
    engine, specs = packed.double_engine(vision_sources_of(family)), vision_arms(vision_sources_of(family), depths)
    assert furthest_from_solo(engine, specs) < GRADIENTS


@pytest.mark.slow
@EACH_FAMILY
def test_gradients_of_every_placement_equal_those_of_a_trial_alone(
    family: str, vision_sources_of: SourcesOf, double: None
) -> None:
    engine = packed.double_engine(vision_sources_of(family))
    depths = [(language, vision) for language in range(LAYERS + 1) for vision in range(BLOCKS + 1)][1:]
    for start in range(0, len(depths), 8):
        assert furthest_from_solo(engine, vision_arms(vision_sources_of(family), depths[start : start + 8])) < GRADIENTS


def test_a_batch_has_windows_of_several_sizes(vision_sources_of: SourcesOf) -> None:
    from transformers.vision_utils import get_vision_window_index

    batch = packed.batches(packed.plain_engine(vision_sources_of("qwen2_5_vl")))["mixed"]
    by_window, ends = get_vision_window_index(batch.inputs["image_grid_thw"], 2, WINDOW_PIXELS, PATCH_PIXELS)
    assert len(set(ends.diff().tolist())) >= 3
    assert not torch.equal(by_window, by_window.sort().values)


def planted(engine: Engine, **steps: Any) -> Engine:
    """Return the engine with other steps of its family's vision forward."""
    shared = engine.base.family.shared_forward
    assert shared is not None and shared.vision is not None
    family = replace(engine.base.family, shared_forward=replace(shared, vision=replace(shared.vision, **steps)))
    return replace(engine, base=replace(engine.base, family=family))


def test_features_in_the_order_of_windows_are_caught(vision_sources_of: SourcesOf, double: None) -> None:
    """The fault: the merged features are not put back in the order of the image tokens."""

    def by_window(model: Any, inputs: Any, groups: int) -> tuple[torch.Tensor]:
        features: list[torch.Tensor] = []
        handle = model.model.visual.merger.register_forward_hook(lambda _, __, output: features.append(output))
        model.model.visual(
            inputs["pixel_values"].repeat(groups, 1), grid_thw=inputs["image_grid_thw"].repeat(groups, 1)
        )
        handle.remove()
        return (features[0],)

    engine = packed.double_engine(vision_sources_of("qwen2_5_vl"))
    specs = vision_arms(vision_sources_of("qwen2_5_vl"), [(1, 0), (0, 3)])
    assert furthest_from_solo(engine, specs, ["image"]) < GRADIENTS
    assert furthest_from_solo(planted(engine, read_images=by_window), specs, ["image"]) > 1e-3


class FirstArguments(dict[Any, Any]):
    """Keeps the first arguments of a vision block for every block with as many groups."""

    def __contains__(self, key: Any) -> bool:
        return super().__contains__(self.short(key))

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.short(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(self.short(key), value)

    @staticmethod
    def short(key: Any) -> Any:
        return key[:2] if key[0] == "vision" else key


def test_windows_for_blocks_without_are_caught(vision_sources_of: SourcesOf, double: None) -> None:
    """The fault: bounds made for a block with windows are given to a block without, once a trial has parted."""
    engine = packed.double_engine(vision_sources_of("qwen2_5_vl"))
    specs = vision_arms(vision_sources_of("qwen2_5_vl"), [(1, 0), (0, 5), (0, 5)])

    def plant(shared: SharedForward) -> None:
        shared._repeated = FirstArguments()

    assert furthest_from_solo(engine, specs, ["image"], prepare=plant) > 1e-3


def test_bounds_of_one_group_for_all_are_caught(vision_sources_of: SourcesOf, double: None) -> None:
    """The fault: the bounds of sequences are not shifted for further groups, so their patches attend elsewhere."""

    def not_shifted(arguments: Any, times: int) -> dict[str, Any]:
        ends = arguments["cu_seqlens"]
        whole = torch.cat([ends, ends[-1:] * times])
        rotations = tuple(one.repeat(times, 1) for one in arguments["position_embeddings"])
        return {**arguments, "cu_seqlens": whole, "position_embeddings": rotations}

    engine = packed.double_engine(vision_sources_of("qwen2_5_vl"))
    specs = vision_arms(vision_sources_of("qwen2_5_vl"), [(1, 0), (0, 5), (0, 5)])
    assert furthest_from_solo(planted(engine, repeat_block_arguments=not_shifted), specs, ["image"]) > 1e-3


# -------------------------------------------------------------------- computed once
@EACH_FAMILY
def test_blocks_below_the_lowest_adapter_are_computed_once(family: str, vision_sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(vision_sources_of(family))
    batch = packed.batches(engine)["mixed"]
    specs = vision_arms(vision_sources_of(family), [(2, 0), (LAYERS - 1, 0), (0, 2)])
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs))
    with packed.counted(engine.base) as counts, torch.no_grad():
        shared.logits(batch, range(3))
    shared.remove()
    patches, whole = len(batch.inputs["pixel_values"]), batch.labels.numel()
    last = packed.predicting_rows(batch)
    assert counts["vision"] == [patches] * (BLOCKS - 2) + [2 * patches] * 2
    if family == "qwen3_vl":
        # the second trial adapts a layer that DeepStack adds to, so it gets its own group before the first layer
        assert counts["language"] == [3 * whole] * (LAYERS - 1) + [3 * last] and len(TAPS) > 1
    else:
        prefix = len(batch.labels) * common_tokens(batch.inputs["mm_token_type_ids"], batch.labels)
        assert counts["language"] == [2 * (whole - prefix) + prefix] + [3 * whole] * (LAYERS - 2) + [3 * last]


@WITHOUT_DEEPSTACK
def test_text_before_the_first_picture_is_computed_once(
    family: str, vision_sources_of: SourcesOf, monkeypatch: pytest.MonkeyPatch, double: None
) -> None:
    from trainables.cohort import shared_forward

    read: list[int] = []
    count = shared_forward.common_tokens
    monkeypatch.setattr(shared_forward, "common_tokens", lambda *given: read.append(count(*given)) or read[-1])
    engine = packed.double_engine(vision_sources_of(family))
    assert furthest_from_solo(engine, vision_arms(vision_sources_of(family), [(1, 0), (0, 2)]), ["image"]) < GRADIENTS
    assert len(read) == 1 and read[0] > 4


@WITHOUT_DEEPSTACK
def test_with_sliding_windows_in_the_decoder_there_is_no_shared_prefix(
    family: str, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, double: None
) -> None:
    import tiny_families

    sliding = {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 2}
    tiny = replace(TINY_VISION[family], text={**TINY_VISION[family].text, **sliding})
    monkeypatch.setitem(tiny_families.TINY_SEEING, family, tiny)
    own = picture_sources(tmp_path, write_vision_base(family, tmp_path / "base"), sources)
    engine = packed.double_engine(own)
    assert set(engine.base.decoder.config.layer_types) == {"full_attention", "sliding_attention"}
    assert furthest_from_solo(engine, vision_arms(own, [(1, 0), (0, 2), (4, 3)])) < GRADIENTS


# -------------------------------------------------------------------- packed rows
@EACH_FAMILY
def test_packed_rows_of_text_are_computed_as_if_alone(family: str, vision_sources_of: SourcesOf, double: None) -> None:
    engine = packed.double_engine(vision_sources_of(family))
    rows = [
        engine.encoder.conversation(packed.text_row(asked, "five."))
        for asked in ("What is two plus three?", "What is two?")
    ]
    padded, joined = collate(rows, engine.encoder, engine.base.device, False), pack(rows, engine.base, 256)
    assert len(joined.labels) == 1

    def loss(base: Base, batch: Batch) -> float:
        with torch.no_grad():
            return float(cross_entropy(*label_logits(base, batch), reduction="sum"))

    assert loss(engine.base, joined) == pytest.approx(loss(engine.base, padded), abs=1e-10)
    specs = vision_arms(vision_sources_of(family), [(1, 0), (3, 0)], dropout=0.0)
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs))
    one, other = (packed.packed(shared, (0, 1), batch) for batch in (padded, joined))
    shared.remove()
    assert all(packed.furthest(other[number][1], one[number][1]) < GRADIENTS for number in (0, 1))
    if FAMILIES[family].packed_position_axes > 1:  # the fault: rows are packed with positions of one axis
        flat = replace(engine.base, family=replace(engine.base.family, packed_position_axes=1))
        assert abs(loss(engine.base, pack(rows, flat, 256)) - loss(engine.base, padded)) > 1e-3


# -------------------------------------------------------------------- evals
@EACH_FAMILY
def test_members_measure_what_they_measure_alone(family: str, vision_sources_of: SourcesOf, double: None) -> None:
    engine = packed.double_engine(vision_sources_of(family))
    baseline = packed.short_baseline(packed.double_engine, vision_sources_of(family))
    specs = vision_arms(vision_sources_of(family), [(2, 0), (0, 3), (4, 6), (1, 1)])
    solo = packed.measured_alone(engine, specs, baseline, LOUD)
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs, LOUD))
    try:
        measured = CohortEvaluator(engine.evaluator, shared).measure(dict.fromkeys(range(4), baseline), 1)
    finally:
        shared.remove()
    packed.assert_measured_alike(measured, solo)


# -------------------------------------------------------------------- whole trials
@WITHOUT_DEEPSTACK
def test_a_cohort_trains_as_its_trials_do_alone(
    family: str, vision_sources_of: SourcesOf, tmp_path: Path, double: None
) -> None:
    sources = vision_sources_of(family)
    engine, baseline = packed.double_engine(sources), packed.short_baseline(packed.double_engine, sources)
    specs = vision_arms(sources, [(2, 0), (0, 2), (1, 3)])
    alone = Watched(engine, baseline, tmp_path / "alone")
    for spec in specs:
        alone.alone(spec)
    cohort = Together(engine, baseline, tmp_path / "together", specs).finish()
    assert set(cohort.ends.values()) == {"completed"}
    for spec in specs:
        assert apart(alone.curves[spec.name], cohort.watched.curves[spec.name]) < CURVES
        own, other = Record(tmp_path / "alone" / spec.name), cohort.record(spec.name)
        assert [one.step for one in own.evals()] == [one.step for one in other.evals()] != []
        for mine, its in zip(own.evals(), other.evals(), strict=True):
            assert mine.metrics["eval_loss"] == pytest.approx(its.metrics["eval_loss"], rel=CURVES)
