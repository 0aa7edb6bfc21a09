"""Tests that a pass of unlike depths keeps a graph only for groups that train something up to a block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import packed
import pytest
import torch
from small_trials import Sources, SpecMaker
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from trainables.cohort.graph_rows import GraphRows
from trainables.cohort.shared_forward import SharedForward
from trainables.cohort.stacked_lora import Groups
from trainables.data.encoding import Batch
from trainables.engine import Engine
from trainables.spec import Placement, TrialSpec

GRADIENTS = 1e-10


@pytest.fixture
def double(sources: Sources) -> Iterator[Engine]:
    with packed.all_double():
        yield packed.double_engine(sources)


def placed(make_spec: SpecMaker, *depths: tuple[int, int], **changes: Any) -> list[TrialSpec]:
    return [
        make_spec(**{"name": f"L{language}V{vision}-{number}", "seed": number, "dropout": 0.1, **changes,
                     "placement": Placement(language=language, vision=vision)})
        for number, (language, vision) in enumerate(depths)
    ]  # fmt: skip


def furthest(engine: Engine, specs: Sequence[TrialSpec], batch: Batch, prepare: Any = lambda _: None) -> float:
    solo = [packed.alone(engine, spec, {"rows": batch})["rows"] for spec in specs]
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs))
    prepare(shared)
    try:
        found = packed.packed(shared, range(len(specs)), batch)
    finally:
        shared.remove()
    worst = [max(abs(found[n][0] - loss), packed.furthest(found[n][1], own)) for n, (loss, own) in enumerate(solo)]
    return max(worst)


def cost(engine: Engine, specs: Sequence[TrialSpec], batch: Batch) -> tuple[int, int]:
    """Return the elements that a pass saves for its backward, each tensor once, and the FLOPs of the backward."""
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = tensor
        return tensor

    shared = SharedForward(engine.base, packed.lifted(engine.base, specs))
    try:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = shared.logits(batch, range(len(specs))).values.sum()
        weights = {one.untyped_storage().data_ptr() for one in engine.base.model.parameters()}
        total = sum(one.untyped_storage().nbytes() // 8 for at, one in saved.items() if at not in weights)
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        return total, counter.get_total_flops()
    finally:
        shared.remove()


# -------------------------------------------------------------------- equal to alone
@pytest.mark.parametrize(
    "depths",
    [
        [(1, 0), (8, 0), (3, 0)],
        [(2, 0), (0, 2), (4, 6), (5, 0)],
        [(8, 12), (1, 0), (0, 1)],
        [(6, 0), (2, 0), (0, 3)],  # the first differs before DeepStack's layers, and trains from the third on
    ],
)
@pytest.mark.parametrize("kind", ["image", "text"])
def test_gradients_of_unlike_depths_equal_those_of_a_trial_alone(
    depths: list[tuple[int, int]], kind: str, double: Engine, make_spec: SpecMaker
) -> None:
    assert furthest(double, placed(make_spec, *depths), packed.batches(double)[kind]) < GRADIENTS


def test_a_graph_that_begins_a_layer_too_high_is_caught(double: Engine, make_spec: SpecMaker) -> None:
    def plant(shared: SharedForward) -> None:
        own = shared.training["language"]
        shared.training["language"] = [frozenset(), *own[:-1]]

    batch, specs = packed.batches(double)["image"], placed(make_spec, (3, 0), (8, 0))
    assert furthest(double, specs, batch) < GRADIENTS
    with pytest.raises(AssertionError, match="has a gradient on one side only"):
        furthest(double, specs, batch, plant)


def test_rows_that_are_joined_in_another_order_are_caught(
    double: Engine, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, specs = packed.batches(double)["image"], placed(make_spec, (2, 0), (8, 0))
    leave = GraphRows.leave

    def swapped(own: GraphRows, output: torch.Tensor) -> torch.Tensor:
        was_open, joined = own._open, leave(own, output)
        return joined if was_open is None else torch.cat(list(reversed(joined.chunk(2))))

    monkeypatch.setattr(GraphRows, "leave", swapped)
    assert furthest(double, specs, batch) > 1e-3


# -------------------------------------------------------------------- what is saved and computed
@pytest.mark.parametrize(
    ("shallow", "deep", "more"),
    [
        ((1, 0), (8, 0), 1.04),
        ((1, 0), (0, 3), 1.04),
        ((2, 0), (4, 0), 1.07),  # in the first layer that the shallow one adapts, both have gradients of its input
        ((0, 1), (0, 9), 1.04),
    ],
)
def test_frozen_rows_save_nothing_and_have_no_backward(
    shallow: tuple[int, int], deep: tuple[int, int], more: float, double: Engine, make_spec: SpecMaker
) -> None:
    """A pass saves what its members save alone, and its backward costs what theirs cost; the trunk is no part of it."""
    batch = packed.batches(double)["image"]
    specs = placed(make_spec, shallow, deep, dropout=0.0)
    alone = [cost(double, [spec], batch) for spec in specs]
    saved, flops = cost(double, specs, batch)
    assert saved <= more * sum(one for one, _ in alone)
    assert flops <= more * sum(one for _, one in alone)


def test_without_the_split_frozen_rows_save_and_go_backward(
    double: Engine, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above measures: one deep member used to send the backward through all rows."""
    batch, specs = packed.batches(double)["image"], placed(make_spec, (1, 0), (8, 0), dropout=0.0)
    alone = [cost(double, [spec], batch) for spec in specs]
    enter = GraphRows.enter
    monkeypatch.setattr(
        GraphRows, "enter", lambda own, block, hidden, _, inputs: enter(own, block, hidden, frozenset((0, 1)), inputs)
    )
    saved, flops = cost(double, specs, batch)
    assert saved > 1.3 * sum(one for one, _ in alone) and flops > 1.3 * sum(one for _, one in alone)


def test_in_an_eval_no_block_is_split(double: Engine, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = packed.batches(double)["image"]
    shared = SharedForward(double.base, packed.lifted(double.base, placed(make_spec, (1, 0), (8, 0))))
    monkeypatch.setattr(GraphRows, "_rows", None)
    with torch.no_grad():
        shared.logits(batch, range(2))
    shared.remove()


def test_a_part_goes_from_block_to_block_as_it_is() -> None:
    """The graph of a part does not contain the rows of other groups: no slice of the joined tensor."""
    groups = Groups()
    groups.begin([(0,), (1,), (2,)])
    rows, given = GraphRows(groups), []

    class Doubled:
        @staticmethod
        def forward(hidden: torch.Tensor) -> torch.Tensor:
            return 2 * hidden

    hidden = torch.arange(6.0).view(6, 1)
    for _ in range(2):
        part, _ = rows.enter(Doubled, hidden, frozenset({1}), lambda own, count: (own, {}))
        assert groups.now == [(1,)]
        given.append(part)
        hidden = rows.leave(2 * part)
        assert groups.now == [(0,), (1,), (2,)]
    assert hidden.flatten().tolist() == [0, 4, 8, 12, 16, 20]
    assert given[1].untyped_storage().data_ptr() != hidden.untyped_storage().data_ptr() and len(given[1]) == 2
