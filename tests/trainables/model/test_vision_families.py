"""Families that take pictures: linears, tokens, passes, evals and trials, against their classes in transformers.

The pictures of a batch have different sizes, so windows of the vision tower are whole, partial and single.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
from small_trials import ANYTHING_GOES, Sources, opened, whole_run
from tiny_families import (
    BLOCKS,
    LAYERS,
    PATCH_PIXELS,
    TAPS,
    TINY_VISION,
    WINDOW_PIXELS,
    picture_sources,
    tiny_vision_config,
    write_vision_base,
)
from together import Together, Watched, apart
from torch.nn.functional import cross_entropy

from trainables.checkpoints.verification import verify
from trainables.cohort.evaluator import CohortEvaluator
from trainables.cohort.shared_forward import SharedForward
from trainables.cohort.shared_prefix import common_tokens
from trainables.data.encoding import Batch, collate
from trainables.data.packing import pack
from trainables.engine import Engine
from trainables.evaluation.evaluator import label_logits
from trainables.health import eval_integrity
from trainables.model import families as model_families
from trainables.model.base import Base
from trainables.model.families import FAMILIES, Family
from trainables.model.lora import place
from trainables.model.placement import resolve
from trainables.record import Record
from trainables.selftest.run import Battery
from trainables.spec import Placement, TrialSpec

EACH_FAMILY = pytest.mark.parametrize("family", TINY_VISION)
WITHOUT_DEEPSTACK = pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen2_vl"])
GRADIENTS, CURVES, LOUD = 1e-10, 1e-8, 0.6
DEPTHS = ((2, 0), (0, 3), (1, 2), (LAYERS, BLOCKS), (0, BLOCKS), (3, 1), (1, 0))
SourcesOf = Callable[[str], Sources]


@pytest.fixture(scope="session")
def sources_of(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> SourcesOf:
    """Make the tiny base of a family, and rows with pictures, once."""

    @cache
    def make(family: str) -> Sources:
        directory = tmp_path_factory.mktemp(family)
        return picture_sources(directory, write_vision_base(family, directory / "base"), sources)

    return make


@pytest.fixture
def double() -> Iterator[None]:
    with packed.all_double():
        yield


def arms(sources: Sources, depths: Sequence[tuple[int, int]] = DEPTHS, **changes: Any) -> list[TrialSpec]:
    """Make a trial for each of (language layers, vision blocks), with settings that act in a pass."""
    return [
        sources.spec(**{
            "name": f"L{language}-V{vision}", "placement": Placement(language=language, vision=vision),
            "rank": (4, 8, 1)[number % 3], "alpha": (8.0, 32.0)[number % 2], "dropout": (0.1, 0.0)[number % 2],
            "rslora": number % 2 == 1, "seed": number % 3, **changes,
        })
        for number, (language, vision) in enumerate(depths)
    ]  # fmt: skip


# -------------------------------------------------------------------- which linears
def network(config: Any, family: Family) -> Any:
    import transformers

    with torch.device("meta"):
        return getattr(transformers, family.model_class)(config)


def assert_all_layers_are_known(network: Any, config: dict[str, Any], family: Family) -> None:
    towers = family.towers(config)
    linears = [linear for blocks in towers.values() for block in blocks for linear in block]
    layers = {name: one for name, one in network.named_modules() if isinstance(one, torch.nn.Linear | torch.nn.Conv3d)}
    inside = {one.name: (one.inputs, one.outputs) for one in linears}
    assert inside == {name: (layers[name].in_features, layers[name].out_features) for name in inside}
    assert len(inside) == len(linears)
    assert set(layers) - set(inside) == {*family.outside(config), "lm_head"}


@EACH_FAMILY
def test_every_layer_of_the_model_is_in_a_block_or_outside(family: str) -> None:
    config = tiny_vision_config(family)
    assert_all_layers_are_known(network(config, FAMILIES[family]), config.to_dict(), FAMILIES[family])
    towers = FAMILIES[family].towers(config.to_dict())
    assert (len(towers["language"]), len(towers["vision"])) == (LAYERS, BLOCKS)


# Their vocabulary aside, and the values of the decoder at the top as published:
# https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct/blob/main/config.json
# https://huggingface.co/Qwen/Qwen2-VL-7B-Instruct/blob/main/config.json
DECODER_7B = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
              "num_key_value_heads": 4, "vocab_size": 512, "bos_token_id": 1, "eos_token_id": 2,
              "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}  # fmt: skip
PUBLISHED = {
    "qwen2_5_vl": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
                   "out_hidden_size": 3584, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]},
    "qwen2_vl": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "hidden_size": 3584,
                 "patch_size": 14},
}  # fmt: skip


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_published_configuration_names_the_linears_of_its_model(family: str) -> None:
    from transformers import AutoConfig

    published = {**DECODER_7B, "vision_config": PUBLISHED[family]}
    config = AutoConfig.for_model(family, **{**published, "vision_config": dict(PUBLISHED[family])})
    assert_all_layers_are_known(network(config, FAMILIES[family]), published, FAMILIES[family])


@EACH_FAMILY
def test_peft_wraps_exactly_the_modules_of_a_placement(family: str, sources_of: SourcesOf) -> None:
    from peft.tuners.lora import LoraLayer

    base = packed.plain_engine(sources_of(family)).base
    for spec in arms(sources_of(family)):
        resolved = resolve(spec.placement, base.towers)
        adapter = place(base, spec, resolved)
        wrapped = {name for name, one in base.model.named_modules() if isinstance(one, LoraLayer)}
        adapter.remove()
        language, vision = spec.placement.language, spec.placement.vision
        last = tuple(f"model.language_model.layers.{LAYERS - 1 - n}." for n in range(language))
        last += tuple(f"model.visual.blocks.{BLOCKS - 1 - n}." for n in range(vision))
        assert wrapped == set(resolved.module_names)
        per_block = len(base.towers["vision"][0])
        assert len(wrapped) == 7 * language + per_block * vision
        assert all(name.startswith(last) for name in wrapped)


# -------------------------------------------------------------------- rows become tokens
@EACH_FAMILY
def test_a_row_becomes_the_tokens_that_the_template_and_its_pictures_give(family: str, sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sources_of(family))
    encoder, merged = engine.encoder, engine.encoder.image_processor.merge_size * PATCH_PIXELS
    seen = set()
    for index in range(6):
        row = engine.train[index]
        encoded = encoder.conversation(row)
        parts = [{"role": one.role, "content": one.text.replace("<image>", "")} for one in row.messages]
        for turn, one in zip(parts, row.messages, strict=True):
            if "<image>" in one.text:
                turn["content"] = [{"type": "image"}, {"type": "text", "text": turn["content"]}]
        theirs = encoder.tokenizer.apply_chat_template(parts, tokenize=True, return_dict=False)
        [size] = {_size(path) for path in row.images}
        seen.add(size)
        count = round(size[0] / merged) * round(size[1] / merged)
        at = theirs.index(encoder.image_token_id)
        assert encoded.tokens == theirs[:at] + [encoder.image_token_id] * count + theirs[at + 1 :]
    assert len(seen) >= 3


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.size


@EACH_FAMILY
def test_the_loss_is_the_models_own(family: str, sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sources_of(family))
    for batch in packed.batches(engine).values():
        with torch.no_grad():
            logits, targets = label_logits(engine.base, batch)
            theirs = engine.base.model(**batch.inputs, labels=batch.labels).loss
        assert float(cross_entropy(logits, targets)) == pytest.approx(float(theirs), abs=1e-5)


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
                worst = max(worst, abs(loss - alone), packed.furthest(gradients, expected))
    finally:
        shared.remove()
    return worst


@EACH_FAMILY
@pytest.mark.parametrize("share", [True, False])
def test_gradients_packed_equal_those_of_a_trial_alone(
    family: str, share: bool, sources_of: SourcesOf, double: None
) -> None:
    engine, specs = packed.double_engine(sources_of(family)), arms(sources_of(family))
    assert furthest_from_solo(engine, specs, share=share) < GRADIENTS


@WITHOUT_DEEPSTACK
@pytest.mark.parametrize(
    "depths",
    [[(2, 0), (1, 0)], [(0, 2), (0, 5)], [(4, 0), (0, 1)], [(1, 6), (3, 6), (0, 1), (4, 0)]],
    ids=["language", "vision", "one each", "both"],
)
def test_gradients_of_placements_equal_those_of_a_trial_alone(
    family: str, depths: list[tuple[int, int]], sources_of: SourcesOf, double: None
) -> None:
    engine, specs = packed.double_engine(sources_of(family)), arms(sources_of(family), depths)
    assert furthest_from_solo(engine, specs) < GRADIENTS


@pytest.mark.slow
@EACH_FAMILY
def test_gradients_of_every_placement_equal_those_of_a_trial_alone(
    family: str, sources_of: SourcesOf, double: None
) -> None:
    engine = packed.double_engine(sources_of(family))
    depths = [(language, vision) for language in range(LAYERS + 1) for vision in range(BLOCKS + 1)][1:]
    for start in range(0, len(depths), 8):
        assert furthest_from_solo(engine, arms(sources_of(family), depths[start : start + 8])) < GRADIENTS


def test_a_batch_has_windows_of_several_sizes(sources_of: SourcesOf) -> None:
    from transformers.vision_utils import get_vision_window_index

    batch = packed.batches(packed.plain_engine(sources_of("qwen2_5_vl")))["mixed"]
    by_window, ends = get_vision_window_index(batch.inputs["image_grid_thw"], 2, WINDOW_PIXELS, PATCH_PIXELS)
    assert len(set(ends.diff().tolist())) >= 3
    assert not torch.equal(by_window, by_window.sort().values)


def planted(engine: Engine, **steps: Any) -> Engine:
    """Return the engine with other steps of its family's vision forward."""
    shared = engine.base.family.shared_forward
    assert shared is not None and shared.vision is not None
    family = replace(engine.base.family, shared_forward=replace(shared, vision=replace(shared.vision, **steps)))
    return replace(engine, base=replace(engine.base, family=family))


def test_features_in_the_order_of_windows_are_caught(sources_of: SourcesOf, double: None) -> None:
    """The fault: the merged features are not put back in the order of the image tokens."""

    def by_window(model: Any, inputs: Any, groups: int) -> tuple[torch.Tensor]:
        features: list[torch.Tensor] = []
        handle = model.model.visual.merger.register_forward_hook(lambda _, __, output: features.append(output))
        model.model.visual(
            inputs["pixel_values"].repeat(groups, 1), grid_thw=inputs["image_grid_thw"].repeat(groups, 1)
        )
        handle.remove()
        return (features[0],)

    engine = packed.double_engine(sources_of("qwen2_5_vl"))
    specs = arms(sources_of("qwen2_5_vl"), [(1, 0), (0, 3)])
    assert furthest_from_solo(engine, specs, ["image"]) < GRADIENTS
    assert furthest_from_solo(planted(engine, read_images=by_window), specs, ["image"]) > 1e-3


class FirstArguments(dict[Any, Any]):
    """Keeps the first arguments of a vision block for every block with as many groups."""

    def __contains__(self, key: Any) -> bool:
        return super().__contains__(key[:2])

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key[:2])

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key[:2], value)


def test_windows_for_blocks_that_attend_to_whole_pictures_are_caught(sources_of: SourcesOf, double: None) -> None:
    """The fault: bounds made for a block with windows are given to a block without, once a trial has parted."""
    engine = packed.double_engine(sources_of("qwen2_5_vl"))
    specs = arms(sources_of("qwen2_5_vl"), [(1, 0), (0, 5)])

    def plant(shared: SharedForward) -> None:
        shared._repeated = FirstArguments()

    assert furthest_from_solo(engine, specs, ["image"], prepare=plant) > 1e-3


def test_bounds_of_one_group_for_all_are_caught(sources_of: SourcesOf, double: None) -> None:
    """The fault: the bounds of sequences are not shifted for further groups, so their patches attend elsewhere."""

    def not_shifted(arguments: Any, times: int) -> dict[str, Any]:
        ends = arguments["cu_seqlens"]
        whole = torch.cat([ends, ends[-1:] * times])
        rotations = tuple(one.repeat(times, 1) for one in arguments["position_embeddings"])
        return {**arguments, "cu_seqlens": whole, "position_embeddings": rotations}

    engine = packed.double_engine(sources_of("qwen2_5_vl"))
    specs = arms(sources_of("qwen2_5_vl"), [(1, 0), (0, 5)])
    assert furthest_from_solo(planted(engine, repeat_block_arguments=not_shifted), specs, ["image"]) > 1e-3


# -------------------------------------------------------------------- computed once
@EACH_FAMILY
def test_blocks_below_the_lowest_adapter_are_computed_once(family: str, sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sources_of(family))
    batch = packed.batches(engine)["mixed"]
    specs = arms(sources_of(family), [(2, 0), (LAYERS - 1, 0), (0, 2)])
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs))
    with packed.counted(engine.base) as counts, torch.no_grad():
        shared.logits(batch, range(3))
    shared.remove()
    patches, whole = len(batch.inputs["pixel_values"]), batch.labels.numel()
    assert counts["vision"] == [patches] * (BLOCKS - 2) + [2 * patches] * 2
    if family == "qwen3_vl":
        # the second trial adapts a layer that DeepStack adds to, so it gets its own group before the first layer
        assert counts["language"] == [3 * whole] * LAYERS and len(TAPS) > 1
    else:
        prefix = len(batch.labels) * common_tokens(batch.inputs, batch.labels)
        assert counts["language"] == [2 * (whole - prefix) + prefix] + [3 * whole] * (LAYERS - 1)


@WITHOUT_DEEPSTACK
def test_text_before_the_first_picture_is_computed_once(
    family: str, sources_of: SourcesOf, monkeypatch: pytest.MonkeyPatch, double: None
) -> None:
    from trainables.cohort import shared_forward

    read: list[int] = []
    count = shared_forward.common_tokens
    monkeypatch.setattr(shared_forward, "common_tokens", lambda *given: read.append(count(*given)) or read[-1])
    engine = packed.double_engine(sources_of(family))
    assert furthest_from_solo(engine, arms(sources_of(family), [(1, 0), (0, 2)]), ["image"]) < GRADIENTS
    assert len(read) == 1 and read[0] > 4


@WITHOUT_DEEPSTACK
def test_with_sliding_windows_in_the_decoder_there_is_no_shared_prefix(
    family: str, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, double: None
) -> None:
    import tiny_families

    sliding = {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 2}
    tiny = replace(TINY_VISION[family], text={**TINY_VISION[family].text, **sliding})
    monkeypatch.setitem(tiny_families.TINY_VISION, family, tiny)
    own = picture_sources(tmp_path, write_vision_base(family, tmp_path / "base"), sources)
    engine = packed.double_engine(own)
    assert set(engine.base.decoder.config.layer_types) == {"full_attention", "sliding_attention"}
    assert furthest_from_solo(engine, arms(own, [(1, 0), (0, 2), (4, 3)])) < GRADIENTS


# -------------------------------------------------------------------- packed rows
@EACH_FAMILY
def test_packed_rows_of_text_are_computed_as_if_alone(family: str, sources_of: SourcesOf, double: None) -> None:
    engine = packed.double_engine(sources_of(family))
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
    specs = arms(sources_of(family), [(1, 0), (3, 0)], dropout=0.0)
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs))
    one, other = (packed.packed(shared, (0, 1), batch) for batch in (padded, joined))
    shared.remove()
    assert all(packed.furthest(other[number][1], one[number][1]) < GRADIENTS for number in (0, 1))
    if FAMILIES[family].packed_position_axes > 1:  # the fault: rows are packed with positions of one axis
        flat = replace(engine.base, family=replace(engine.base.family, packed_position_axes=1))
        assert abs(loss(engine.base, pack(rows, flat, 256)) - loss(engine.base, padded)) > 1e-3


# -------------------------------------------------------------------- evals
@EACH_FAMILY
def test_members_measure_what_they_measure_alone(family: str, sources_of: SourcesOf, double: None) -> None:
    engine = packed.double_engine(sources_of(family))
    baseline = packed.short_baseline(packed.double_engine, sources_of(family))
    specs, solo = arms(sources_of(family), [(2, 0), (0, 3), (4, 6), (1, 1)]), []
    for spec in specs:
        adapter = packed.grown(engine.base, spec, LOUD)
        engine.base.model.eval()
        solo.append(eval_integrity.measure(engine.evaluator, baseline, 1))
        adapter.remove()
    assert len({tuple(answers.values()) for _, answers, _ in solo}) == len(solo)  # or equality says nothing
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs, LOUD))
    try:
        measured = CohortEvaluator(engine.evaluator, shared).measure(dict.fromkeys(range(4), baseline), 1)
    finally:
        shared.remove()
    for number, (metrics, answers, finding) in enumerate(solo):
        assert measured[number][1] == answers
        assert measured[number][0] == pytest.approx(metrics, rel=1e-10, abs=1e-12)
        assert measured[number][2] == finding is None


# -------------------------------------------------------------------- whole trials
@WITHOUT_DEEPSTACK
def test_a_cohort_trains_as_its_trials_do_alone(
    family: str, sources_of: SourcesOf, tmp_path: Path, double: None
) -> None:
    sources = sources_of(family)
    engine, baseline = packed.double_engine(sources), packed.short_baseline(packed.double_engine, sources)
    specs = arms(sources, [(2, 0), (0, 2), (1, 3)])
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


@WITHOUT_DEEPSTACK
def test_a_trial_is_proved_trained_saved_and_verified(family: str, sources_of: SourcesOf, tmp_path: Path) -> None:
    import transformers
    from peft import PeftModel

    sources = sources_of(family)
    engine = packed.plain_engine(sources)
    baseline = packed.short_baseline(packed.plain_engine, sources)
    [spec] = arms(sources, [(2, 2)], learning_rate=2e-2, vision_learning_rate=2e-2)
    batch = packed.batches(engine)["mixed"]
    with opened(engine, spec, tmp_path / "trial", baseline, constraint=ANYTHING_GOES) as trial:
        trial.battery = Battery(engine)
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
        theirs, _ = label_logits(replace(engine.base, model=plain), batch)
        bare, _ = label_logits(engine.base, batch)
    assert torch.allclose(live, theirs, atol=1e-5)
    assert (live - bare).abs().max() > 1e-2


@pytest.mark.parametrize("quantization", ["nf4-double", pytest.param("int8", marks=pytest.mark.slow)])
def test_a_quantized_base_trains(quantization: str, sources_of: SourcesOf, tmp_path: Path) -> None:
    sources = sources_of("qwen2_5_vl")
    [spec] = arms(sources, [(1, 1)], quantization=quantization)
    engine = Engine.load(spec, torch.device("cpu"))
    packed.shorten_evals(engine)
    baseline = packed.short_baseline(packed.plain_engine, sources)
    record = whole_run(engine, spec, tmp_path / "trial", baseline, constraint=ANYTHING_GOES)
    assert str(record.verdict()) == "completed"


# -------------------------------------------------------------------- the table
def test_every_family_has_a_tiny_model() -> None:
    from tiny_families import TINY

    assert set(model_families.FAMILIES) == {*TINY, *TINY_VISION}
    assert {name for name, family in FAMILIES.items() if family.sees} == set(TINY_VISION)
