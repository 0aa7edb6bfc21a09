"""Tests families on the shapes of real models of 1B to 76B weights, without their weights.

The shapes are the defaults of transformers' classes, and those in `layouts/published.json`, which names the source of
each and what is missing. Layouts of families that are not known here are left out.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from peft.tuners.lora import LoraLayer

from sweeps.explaining.sharing import frozen_depths
from sweeps.stage4 import STUDY
from trainables.cohort.cuts import Member, TowerDepths, candidates, forecast, passes
from trainables.export.module_regex import module_expression
from trainables.model.families import FAMILIES, TOWERS
from trainables.model.placement import ResolvedPlacement, resolve
from trainables.spec import Placement

PUBLISHED = json.loads((Path(__file__).parent / "layouts" / "published.json").read_text(encoding="utf-8"))["layouts"]
KNOWN = {name: one for name, one in PUBLISHED.items() if one["config"]["model_type"] in FAMILIES}
# what every published model has, and the class of transformers does not build without
GIVEN: dict[str, dict[str, Any]] = {"ministral": {"head_dim": 128}, "gemma4": {"vision_config": {}}}
DEFAULTS = {f"default-{one}": {"config": {"model_type": one, **GIVEN.get(one, {})}} for one in FAMILIES}
LAYOUTS: dict[str, dict[str, Any]] = {**KNOWN, **DEFAULTS}
QUICK = ("Llama-3.1-70B", "Mixtral-8x7B", "default-qwen3_vl")
EXPERTS = ("Mixtral-8x7B", "Qwen3-30B-A3B", "Qwen3-VL-30B-A3B")
RANK = 16
layouts = pytest.mark.parametrize(
    "layout", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in LAYOUTS]
)


class Real:
    """A model of transformers on the meta device, and its configuration as config.json would hold it."""

    def __init__(self, layout: str) -> None:
        values = LAYOUTS[layout]["config"]
        self.family = FAMILIES[values["model_type"]]
        built = transformers.AutoConfig.for_model(**values)
        self.config: dict[str, Any] = json.loads(built.to_json_string(use_diff=True))
        with torch.device("meta"):
            self.model = getattr(transformers, self.family.model_class)(built)
        self.model.tie_weights()
        self.towers = self.family.towers(self.config)
        self.modules = [name for name, _ in self.model.named_modules()]

    def placed(self, language: int, vision: int) -> ResolvedPlacement:
        return resolve(Placement(language=language, vision=vision if self.towers["vision"] else 0), self.towers)


@lru_cache(maxsize=1)  # tests of one layout follow each other
def real(layout: str) -> Real:
    return Real(layout)


@pytest.mark.parametrize("layout", [name for name in PUBLISHED])
def test_every_published_layout_names_its_source(layout: str) -> None:
    assert re.search(r"commit [0-9a-f]{7,40}\b", PUBLISHED[layout]["source"])


@layouts
def test_weights_and_parameters_are_those_of_transformers(layout: str) -> None:
    one = real(layout)
    shapes = {name: tuple(tensor.shape) for name, tensor in one.model.state_dict().items()}
    weights = one.family.weights(one.config)
    assert weights == shapes
    head = "lm_head.weight" if one.family.is_tied(one.config) else None
    counted = sum(prod(shape) for name, shape in weights.items() if name != head)
    stored = sum(buffer.numel() for name, buffer in one.model.named_buffers() if name in shapes)
    assert counted == sum(p.numel() for p in one.model.parameters()) + stored
    assert LAYOUTS[layout].get("parameters") in (None, counted)


@layouts
@pytest.mark.parametrize(("language", "vision"), [(2, 4), (1, 0), (0, 3)])
def test_placements_expressions_and_cut_points_are_those_of_the_model(layout: str, language: int, vision: int) -> None:
    one = real(layout)
    if not (language or one.towers["vision"]):
        pytest.skip("no vision tower")
    placed = one.placed(language, vision)
    expression = module_expression(placed.module_names)
    assert {name for name in one.modules if re.fullmatch(expression, name)} == set(placed.module_names)
    with torch.device("meta"):
        model = peft.get_peft_model(one.model, peft.LoraConfig(r=RANK, target_modules=list(placed.module_names)))
    try:
        wrapped = {name.removeprefix("base_model.model.") for name, module in model.named_modules()
                   if isinstance(module, LoraLayer)}  # fmt: skip
        assert wrapped == set(placed.module_names)
        assert placed.total_parameters(RANK) == model.get_nb_trainable_parameters()[0]
    finally:
        model.unload()
    depths = frozen_depths(placed, one.towers)
    for tower, depth in (("language", depths.language), ("vision", depths.vision)):
        first = [int(re.findall(r"\.(\d+)\.", linear.name)[0]) for linear in placed.linears[tower]]  # type: ignore[index]
        assert depth == min(first, default=len(one.towers[tower]))  # type: ignore[index]


@layouts
def test_cuts_of_a_study_keep_every_member_and_never_cost_more_shared_than_alone(layout: str) -> None:
    one = real(layout)
    layers, blocks = (len(one.towers[tower]) for tower in TOWERS)
    towers = TowerDepths(layers, blocks, block_cost=0.1 if blocks else 0.0)
    arms = [arm for arm in STUDY.arms if (arm.language or arm.vision) and arm.vision <= blocks]
    members = [Member(number, arm.language, arm.vision, RANK) for number, arm in enumerate(arms)]
    for cut in candidates(members, towers):
        split = passes(members, cut)
        assert sorted(number for part in split for number in part) == list(range(len(members)))
        assert all(members[low[-1]].depth <= members[high[0]].depth for low, high in pairwise(split))
    alone = sum(forecast([member], towers) for member in members)
    assert forecast(members, towers) <= alone


@pytest.mark.slow
@pytest.mark.parametrize("layout", EXPERTS)
def test_most_weights_of_a_base_with_experts_are_no_linears(layout: str) -> None:
    one = real(layout)
    linears = sum(m.weight.numel() for m in one.model.modules() if isinstance(m, torch.nn.Linear))
    experts = sum(map(prod, one.family.experts(one.config).values()))
    every = sum(p.numel() for p in one.model.parameters())
    assert experts / every == pytest.approx(0.95, abs=0.03)
    assert experts + linears < every
