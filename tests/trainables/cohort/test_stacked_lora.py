"""Tests stacked LoRA: how members are grouped, and what their factors add to a linear of the base."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import packed
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_trials import Sources, SpecMaker

from trainables.cohort.stacked_lora import Groups, StackedLora, take
from trainables.model.base import Base
from trainables.model.dropout import Masks
from trainables.spec import Placement

LINEAR = "model.language_model.layers.7.mlp.up_proj"
WIDTH_IN, WIDTH_OUT = 128, 192


def begun(*groups: tuple[int, ...]) -> Groups:
    made = Groups()
    made.begin(groups)
    return made


# -------------------------------------------------------------------- who is computed as one
def test_a_pass_without_members_has_no_groups() -> None:
    assert Groups().now == [] and begun().now == []


def test_members_split_into_groups_and_keep_their_source_rows() -> None:
    groups = begun((0, 1, 2, 3))
    assert groups.split(frozenset({1})) == [0, 0]
    assert groups.now == [(0, 2, 3), (1,)]
    assert groups.split(frozenset({0, 3, 1})) == [0, 0, 0, 1]
    assert groups.now == [(2,), (0,), (3,), (1,)]
    assert groups.history == {1: [(0, 1, 2, 3)], 2: [(0, 2, 3), (1,)], 4: [(2,), (0,), (3,), (1,)]}
    assert groups.parents(1) == [0, 0, 0, 0]
    assert groups.parents(2) == [0, 0, 0, 1]
    assert groups.parents(4) == [0, 1, 2, 3]


@pytest.mark.parametrize("apart", [frozenset(), frozenset({7}), frozenset({2})])
def test_rows_are_unchanged_when_no_member_leaves_its_group(apart: frozenset[int]) -> None:
    groups = begun((0, 1), (2,))
    assert groups.split(apart) is None
    assert groups.now == [(0, 1), (2,)] and groups.history == {2: [(0, 1), (2,)]}


def test_a_new_pass_forgets_the_last_one() -> None:
    groups = begun((0, 1))
    groups.split(frozenset({0}))
    groups.begin([(0, 1)])
    assert groups.now == [(0, 1)] and groups.history == {1: [(0, 1)]}


@given(partings=st.lists(st.frozensets(st.integers(0, 6)), max_size=5))
def test_every_member_finds_its_rows_after_any_split(partings: list[frozenset[int]]) -> None:
    groups, rows = begun(tuple(range(7))), 3
    history = {1: torch.zeros(rows)}
    tensor = history[1]
    for apart in partings:
        before = len(groups.now)
        parents = groups.split(apart)
        if parents is not None:
            tensor = take(tensor, parents, before) + torch.arange(len(groups.now) * rows) * 100.0 ** len(groups.now)
            history[len(groups.now)] = tensor
    assert sorted(member for group in groups.now for member in group) == list(range(7))
    for count, then in history.items():
        picked = take(then, groups.parents(count), count).view(len(groups.now), rows)
        for number, group in enumerate(groups.now):
            old = next(i for i, one in enumerate(groups.history[count]) if group[0] in one)
            assert torch.equal(picked[number], then.view(count, rows)[old])


# -------------------------------------------------------------------- what is added to a linear
@pytest.fixture
def base(sources: Sources) -> Iterator[Base]:
    with packed.all_double():
        yield packed.double_engine(sources).base


@pytest.fixture
def banked(base: Base, make_spec: SpecMaker) -> Iterator[StackedLora]:
    placements = [(2, 0), (1, 1), (0, 2)]
    specs = [
        make_spec(
            placement=Placement(language=language, vision=vision),
            rank=(3, 5, 2)[number], alpha=(6.0, 32.0, 8.0)[number], rslora=number == 1, dropout=0.0, seed=number,
        )
        for number, (language, vision) in enumerate(placements)
    ]  # fmt: skip
    bank = StackedLora(base, packed.lifted(base, specs))
    yield bank
    bank.remove()


def formula(bank: StackedLora, member: int, rows: torch.Tensor) -> torch.Tensor:
    """Return LoRA's update for one member, by its definition."""
    down, up = bank.by_layer[LINEAR][member]
    config = bank.adapters[member].config
    scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    return scale * (rows @ down.T) @ up.T


def test_each_group_gets_its_own_update_whatever_the_ranks_and_scales(base: Base, banked: StackedLora) -> None:
    linear: Any = base.model.get_submodule(LINEAR)
    rows = torch.randn(4, 6, WIDTH_IN, dtype=torch.float64)
    plain = torch.nn.functional.linear(rows, linear.weight)
    banked.groups.begin([(0,), (1,)])
    both = linear(rows)
    for member, where in ((0, slice(0, 2)), (1, slice(2, 4))):
        torch.testing.assert_close(both[where], plain[where] + formula(banked, member, rows[where]), rtol=0, atol=1e-12)
    banked.groups.begin([(1,), (2,)])  # the third member does not adapt this linear
    one = linear(rows)
    torch.testing.assert_close(one[:2], plain[:2] + formula(banked, 1, rows[:2]), rtol=0, atol=1e-12)
    assert torch.equal(one[2:], plain[2:])
    banked.groups.begin([(0,), (2,), (1,), (2,)])
    some = linear(rows)
    assert torch.equal(some[[1, 3]], plain[[1, 3]])
    for number, member in ((0, 0), (2, 1)):
        expected = plain[number] + formula(banked, member, rows[number])
        torch.testing.assert_close(some[number], expected, rtol=0, atol=1e-12)
    banked.groups.begin(())
    assert torch.equal(linear(rows), plain)


def test_padding_smaller_ranks_gives_every_factor_its_own_gradient(base: Base, banked: StackedLora) -> None:
    linear = base.model.get_submodule(LINEAR)
    rows = torch.randn(4, 6, WIDTH_IN, dtype=torch.float64)
    weights = torch.randn(4, 6, WIDTH_OUT, dtype=torch.float64)
    banked.groups.begin([(0,), (1,)])
    (linear(rows) * weights).sum().backward()
    for member, where in ((0, slice(0, 2)), (1, slice(2, 4))):
        factors = banked.by_layer[LINEAR][member]
        own = [factor.grad for factor in factors]
        expected = torch.autograd.grad((formula(banked, member, rows[where]) * weights[where]).sum(), factors)
        for one, other, factor in zip(own, expected, factors, strict=True):
            assert one is not None and one.shape == factor.shape
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
            factor.grad = None


def test_a_mask_is_drawn_once_for_members_of_equal_seed_rate_and_step(
    base: Base, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [(0, 0.5, 0), (0, 0.5, 0), (1, 0.5, 0), (0, 0.1, 0), (0, 0.5, 1), (0, 0.0, 0)]
    specs = [make_spec(name=str(one), placement=Placement(language=1), seed=one[0], dropout=one[1]) for one in places]
    adapters = packed.lifted(base, specs)
    for adapter, (_, _, step) in zip(adapters, places, strict=True):
        adapter.masks.step = step
    drawn: list[str] = []
    keep = Masks.keep
    monkeypatch.setattr(Masks, "keep", lambda masks, *given: drawn.append(masks.key) or keep(masks, *given))
    bank, linear = StackedLora(base, adapters), base.model.get_submodule(LINEAR)
    bank.groups.begin([(member,) for member in range(len(places))])
    row = torch.randn(1, 40, WIDTH_IN, dtype=torch.float64)
    try:
        with packed.training(base):
            out = linear(row.repeat(len(places), 1, 1)) - torch.nn.functional.linear(row, linear.weight)
    finally:
        bank.remove()
    assert sorted(drawn) == sorted({adapter.masks.key for adapter in adapters})
    for member, adapter in enumerate(adapters):
        kept = row[0] * keep(adapter.masks, LINEAR, row)[0] * adapter.masks.scale
        torch.testing.assert_close(out[member], formula(bank, member, kept), rtol=0, atol=1e-12)


def test_members_in_a_block_are_those_that_differ_there(base: Base, banked: StackedLora) -> None:
    layer = "model.language_model.layers.{}".format
    assert [banked.members_in(layer(index)) for index in (5, 6, 7)] == [set(), {0}, {0, 1}]
    block = "model.visual.blocks.{}".format
    assert [banked.members_in(block(index)) for index in (1, 10, 11)] == [set(), {2}, {1, 2}]


def test_a_frozen_tensor_differs_from_the_base_only_where_it_is_not_zero(base: Base, banked: StackedLora) -> None:
    for name, pair in banked.by_layer.items():
        if name.startswith("model.language_model.layers.7.") and 1 in pair:
            for factor in pair[1]:
                factor.requires_grad_(False)
    assert banked.members_in("model.language_model.layers.7") == {0, 1}
    for name, pair in banked.by_layer.items():
        if name.startswith("model.language_model.layers.7.") and 1 in pair:
            pair[1][1].data.zero_()
    assert banked.members_in("model.language_model.layers.7") == {0}


def test_removed_stacked_lora_leaves_no_hook(base: Base, make_spec: SpecMaker) -> None:
    modules = dict(base.model.named_modules())
    before = {name: len(one._forward_hooks) for name, one in modules.items()}
    bank = StackedLora(base, packed.lifted(base, [make_spec()]))
    assert {name: len(one._forward_hooks) for name, one in modules.items()} != before
    bank.remove()
    assert {name: len(one._forward_hooks) for name, one in modules.items()} == before
    assert dict(base.model.named_modules()) == modules  # and the base has the modules it had
