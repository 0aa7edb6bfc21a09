"""Tests the FLOP model against PyTorch's FLOP counter on the passes of real trials."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.architecture import Architecture, Counts
from benchmarks.families import modelled, trial
from benchmarks.flops import ALONE, APART, KEPT, SHARED, Arm, Cost
from benchmarks.shapes import SHAPES, configuration_4b, prepared
from trainables.engine import Engine
from trainables.spec import Placement

if TYPE_CHECKING:
    from benchmarks.sharing import Bench


COUNTS = Counts(rows=4, row_tokens=60, prefix_tokens=20, labels=40, row_labels=12, patches=256, patch_pairs=16_384)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    # unquantized: the counter does not see what bitsandbytes multiplies
    made = prepared(SHAPES["mini"], tmp_path_factory.mktemp("mini") / "shape", steps=2)
    return made | {"quantization": "none", "batch_rows": 4}


@pytest.fixture(scope="module")
def bench(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    import torch

    from benchmarks.sharing import Bench

    torch.set_num_threads(1)
    spec = trial("A1", settings)
    engine = Engine.on(SHAPES["mini"].load(spec.base.path, spec), spec)
    return Bench(engine, tmp_path_factory.mktemp("records"))


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(
    "names",
    ["A1", "A2 C1 D2 D3", *(pytest.param(one, marks=pytest.mark.slow) for one in ("C3", "A1 A2", "B1 B3", "A1 B2"))],
)
def test_counts_what_a_pass_computes(bench: Bench, settings: dict[str, Any], names: str, share: bool) -> None:
    specs = [trial(name, settings) for name in names.split()]
    counted, cost = counted_flops(bench, specs, share), bench.cost(specs)
    own = Cost(cost.architecture, cost.counts, attention=0.0).one_pass(
        [modelled(spec) for spec in specs], SHARED if share else APART
    )
    assert own == pytest.approx(counted, rel=0.005)


@pytest.mark.parametrize("depths", [(2,), (4, 1), (4, 2, 1)])
def test_counts_a_pass_of_text_rows(depths: tuple[int, ...], tmp_path: Path) -> None:
    import torch
    from tiny_families import text_sources, write_base

    from benchmarks.sharing import Bench

    torch.set_num_threads(1)
    sources = text_sources(tmp_path, write_base("llama", tmp_path / "base"))
    specs = [sources.spec(name=f"L{depth}", placement=Placement(language=depth)) for depth in depths]
    bench = Bench(Engine.load(specs[0], torch.device("cpu")), tmp_path / "records")
    cost = bench.cost(specs)
    assert (cost.architecture.blocks, cost.counts.patches, cost.counts.prefix_tokens) == (0, 0, 0)
    assert 0 < cost.counts.row_labels < cost.counts.row_tokens
    own = Cost(cost.architecture, cost.counts, attention=0.0).one_pass([modelled(spec) for spec in specs])
    assert own == pytest.approx(counted_flops(bench, specs, share=True), rel=0.005)


def test_kept_activations_cost_what_lies_above_the_cut() -> None:
    cost, arms = cost_4b(), [Arm(2, 0, 8), Arm(4, 0, 8)]
    below = 34 * cost.layer_forward() + 24 * cost.block_forward() + 4 * cost.merger() + cost.patches_embedded()
    assert cost.one_pass(arms[:1]) - cost.one_pass(arms[:1], KEPT) == pytest.approx(below)
    # one that adapts the vision tower computes all language layers, and the blocks from its own on
    sees = [Arm(0, 6, 8)]
    saved = 18 * cost.block_forward() + 3 * cost.merger() + cost.patches_embedded()
    assert cost.one_pass(sees) - cost.one_pass(sees, KEPT) == pytest.approx(saved)
    # passes of equal depth win where the trunk costs nothing
    equal, unlike = [(0,), (1,)], [(0, 1)]
    assert cost.passes(arms, unlike) < cost.passes(arms, equal)
    assert cost.passes(arms, equal, KEPT) < cost.passes(arms, unlike, KEPT)
    assert cost.over_epochs(arms, equal, 1) == cost.passes(arms, equal)
    halves = (cost.passes(arms, equal) + cost.passes(arms, equal, KEPT)) / 2
    assert cost.over_epochs(arms, equal, 2) == pytest.approx(halves)


def counted_flops(bench: Bench, specs: list[Any], share: bool) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    from trainables.cohort.shared_forward import SharedForward

    with ExitStack() as stack:
        trials = []
        for spec in specs:
            trials.append(bench.open(spec, stack))
            trials[-1].adapter.remove()
        shared = SharedForward(bench.engine.base, [one.adapter for one in trials], share)
        stack.callback(shared.remove)
        batch = bench.engine.batches(bench.engine.row_stream(specs[0], 0), specs[0], 0)[0]
        with FlopCounterMode(display=False) as counter:
            shared.logits(batch, range(len(trials))).values.sum().backward()
    return counter.get_total_flops()


def cost_4b() -> Cost:
    from transformers import AutoConfig

    from trainables.mini import BASE_DIRECTORY

    return Cost(Architecture.of(configuration_4b(AutoConfig.from_pretrained(BASE_DIRECTORY))), COUNTS)


def test_reads_the_sizes_of_qwen3_vl_4b() -> None:
    own = cost_4b().architecture
    # source: the published sizes, 100.9 M parameters a layer, 12.6 M a block
    assert own.layer_weights == 100_925_440
    assert own.block_weights == 12_582_912
    assert own.taps == (5, 11, 17)


def test_sharing_costs_less_and_a_trial_alone_shares_nothing() -> None:
    cost, arms = cost_4b(), [Arm(2, 0, 8), Arm(4, 0, 8)]
    alone = sum(cost.solo(arm) for arm in arms)
    assert cost.passes(arms, [(0, 1)]) < cost.passes(arms, [(0,), (1,)]) < alone
    assert cost.one_pass(arms[:1], SHARED) == cost.one_pass(arms[:1], APART) < cost.one_pass(arms[:1], ALONE)


def test_the_prefix_helps_only_where_groups_part_before_the_language_tower() -> None:
    longer = Counts(**{**vars(COUNTS), "prefix_tokens": 30})
    cost = cost_4b()
    more = Cost(cost.architecture, longer)
    sees, blind = [Arm(0, 2, 8), Arm(0, 4, 8)], [Arm(2, 0, 8), Arm(4, 0, 8)]
    assert more.one_pass(sees) < cost.one_pass(sees)
    assert more.one_pass(blind) == cost.one_pass(blind)


def test_the_stock_recipe_costs_nearly_the_same_whatever_is_adapted() -> None:
    cost = cost_4b()
    stock = [cost.stock(Arm(language, vision, 16)) for language, vision in ((2, 0), (0, 6), (4, 6))]
    assert max(stock) / min(stock) < 1.05
    assert min(stock) > 2.0 * cost.solo(Arm(2, 0, 16))
