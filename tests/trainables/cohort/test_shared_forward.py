"""Tests the shared forward: common parts are computed once, and each group gets its own rows from where it differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import packed
import pytest
import torch
from packed import LANGUAGE_LAYERS, VISION_BLOCKS
from small_trials import Sources, SpecMaker

from trainables.cohort.shared_forward import SharedForward, block_name
from trainables.cohort.shared_prefix import common_tokens
from trainables.data.encoding import Batch
from trainables.engine import Engine
from trainables.evaluation.evaluator import label_logits
from trainables.model.families import LinearShape
from trainables.spec import Placement, TrialSpec


@pytest.fixture
def double(sources: Sources) -> Iterator[Engine]:
    with packed.all_double():
        yield packed.double_engine(sources)


@pytest.fixture
def batch(double: Engine) -> Batch:
    return packed.batches(double)["image"]


def placed(make_spec: SpecMaker, *depths: tuple[int, int]) -> list[TrialSpec]:
    return [
        make_spec(placement=Placement(language=language, vision=vision), dropout=0.0, seed=number)
        for number, (language, vision) in enumerate(depths)
    ]


def groups_per_block(
    double: Engine, specs: Sequence[TrialSpec], batch: Batch, share: bool = True
) -> tuple[list[float], list[int]]:
    """Return what a pass computes: pictures' patches in batches, block by block, and token rows, layer by layer."""
    shared = SharedForward(double.base, packed.lifted(double.base, specs), share)
    try:
        with packed.counted(double.base) as counts:
            shared.logits(batch, range(len(specs)))
    finally:
        shared.remove()
    patches = len(batch.inputs.get("pixel_values", ()))
    return [count / max(1, patches) for count in counts["vision"]], counts["language"]


def prefix_whole_last(batch: Batch) -> tuple[int, int, int]:
    """Return the token rows before the pictures, those of the whole batch, and those that predict labels."""
    rows, tokens = batch.labels.shape
    prefix = rows * common_tokens(batch.inputs["mm_token_type_ids"], batch.labels)
    return prefix, rows * tokens, packed.predicting_rows(batch)


# -------------------------------------------------------------------- what is computed once
def test_vision_blocks_below_the_lowest_adapter_see_one_group(
    double: Engine, batch: Batch, make_spec: SpecMaker
) -> None:
    specs = placed(make_spec, (2, 0), (1, 0), (0, 4), (1, 2))
    vision, language = groups_per_block(double, specs, batch)
    assert vision == [1] * 8 + [2] * 2 + [3] * 2
    prefix, whole, last = prefix_whole_last(batch)
    assert prefix > 0
    # the two without a vision adapter stay one group up to layer 6, the prefix is one for all four
    assert language == [3 * (whole - prefix) + prefix] * 6 + [4 * whole, 4 * last]


def test_arms_without_a_vision_adapter_share_all_layers_below_the_first_adapted_one(
    double: Engine, batch: Batch, make_spec: SpecMaker
) -> None:
    vision, language = groups_per_block(double, placed(make_spec, (1, 0), (3, 0), (2, 0), (3, 0)), batch)
    _, whole, last = prefix_whole_last(batch)
    assert vision == [1] * VISION_BLOCKS
    assert language == [whole] * 5 + [3 * whole, 4 * whole, 4 * last]


def test_a_member_that_adapts_a_deepstack_layer_splits_before_it(
    double: Engine, batch: Batch, make_spec: SpecMaker
) -> None:
    _, language = groups_per_block(double, placed(make_spec, (6, 0), (1, 0)), batch)
    _, whole, last = prefix_whole_last(batch)
    assert language == [2 * whole] * (LANGUAGE_LAYERS - 1) + [2 * last]
    _, language = groups_per_block(double, placed(make_spec, (5, 0), (1, 0)), batch)
    assert language == [whole] * 3 + [2 * whole] * 4 + [2 * last]


def test_text_rows_reach_no_vision_block_and_split_no_group(double: Engine, make_spec: SpecMaker) -> None:
    text = packed.batches(double)["text"]
    specs = placed(make_spec, (0, 4), (0, 12), (1, 2))
    vision, language = groups_per_block(double, specs, text)
    whole = text.labels.numel()
    assert vision == [0] * VISION_BLOCKS
    assert language == [whole] * 7 + [2 * packed.predicting_rows(text)]
    shared = SharedForward(double.base, packed.lifted(double.base, specs))
    out = shared.logits(text, range(3))
    shared.remove()
    assert out.groups == [(0, 1), (2,)] and len(out.values) == 2


def test_without_sharing_every_member_is_computed_completely(
    double: Engine, batch: Batch, make_spec: SpecMaker
) -> None:
    vision, language = groups_per_block(double, placed(make_spec, (1, 0), (0, 1)), batch, share=False)
    _, whole, last = prefix_whole_last(batch)
    assert vision == [2] * VISION_BLOCKS and language == [2 * whole] * (LANGUAGE_LAYERS - 1) + [2 * last]


def test_members_outside_a_pass_split_no_group(double: Engine, batch: Batch, make_spec: SpecMaker) -> None:
    specs = placed(make_spec, (8, 12), (1, 0), (2, 0))
    shared = SharedForward(double.base, packed.lifted(double.base, specs))
    with packed.counted(double.base) as counts:
        out = shared.logits(batch, [2, 1])
    shared.remove()
    _, whole, last = prefix_whole_last(batch)
    assert counts["language"] == [whole] * 6 + [2 * whole, 2 * last]
    assert sorted(out.groups) == [(1,), (2,)]


# -------------------------------------------------------------------- facts, not names
@pytest.mark.parametrize("learned", [False, True])
def test_members_split_by_their_trained_modules_not_by_their_placement(
    learned: bool, double: Engine, batch: Batch, make_spec: SpecMaker
) -> None:
    """A frozen block equals the base's while its update is zero; otherwise the member must split there."""
    specs = placed(make_spec, (4, 0), (2, 0))
    adapters = packed.lifted(double.base, specs)
    for name, parameter in adapters[0].trained():
        if ".layers.4." in name or ".layers.5." in name:
            parameter.requires_grad_(False)
            if not learned:
                parameter.data.zero_()
    shared = SharedForward(double.base, adapters)
    with packed.counted(double.base) as counts:
        out = shared.logits(batch, range(2))
    shared.remove()
    _, whole, last = prefix_whole_last(batch)
    below = [2 * whole] * 2 if learned else [whole] * 2
    assert counts["language"] == [whole] * 4 + below + [2 * whole, 2 * last]
    live = packed.grown(double.base, specs[1])
    expected = label_logits(double.base, batch)[0]
    live.remove()
    torch.testing.assert_close(out.values[out.groups.index((1,))], expected, rtol=0, atol=1e-10)


def test_a_block_is_named_by_what_all_its_linears_have_in_common(double: Engine) -> None:
    towers = double.base.towers
    assert block_name(towers["language"][3]) == "model.language_model.layers.3"
    assert block_name(towers["vision"][11]) == "model.visual.blocks.11"
    lone = (LinearShape("a.b.q", 1, 1), LinearShape("a.b.k", 1, 1))
    assert block_name(lone) == "a.b"


# -------------------------------------------------------------------- the base is untouched
def test_a_removed_shared_forward_restores_the_base(double: Engine, batch: Batch, make_spec: SpecMaker) -> None:
    model = double.base.model
    before = label_logits(double.base, batch)[0]
    hooks = [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in model.modules()]
    values = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shared = SharedForward(double.base, packed.lifted(double.base, placed(make_spec, (3, 2), (0, 4))))
    assert torch.equal(label_logits(double.base, batch)[0], before)  # between passes it acts for nobody
    packed.packed(shared, (0, 1), batch)
    assert shared.groups.now == [] and shared._prefix is None and not shared._repeated
    shared.remove()
    assert [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in model.modules()] == hooks
    assert torch.equal(label_logits(double.base, batch)[0], before)
    assert all(torch.equal(tensor, values[name]) for name, tensor in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_pass_that_failed_leaves_nothing_for_the_next(double: Engine, batch: Batch, make_spec: SpecMaker) -> None:
    shared = SharedForward(double.base, packed.lifted(double.base, placed(make_spec, (2, 0), (0, 4))))
    expected = shared.logits(batch, range(2)).values

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("planted")

    handle = double.base.model.model.language_model.layers[7].register_forward_hook(full)
    with pytest.raises(torch.OutOfMemoryError):
        shared.logits(batch, range(2))
    handle.remove()
    again = shared.logits(batch, range(2)).values
    shared.remove()
    assert torch.equal(again, expected)
