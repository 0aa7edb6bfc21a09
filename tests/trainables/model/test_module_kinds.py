"""Tests the kinds of linears: every linear of every family has one, and a fused projection is all its parts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tiny_families import TINY, tiny_config

from trainables.model.families import FAMILIES
from trainables.model.module_kinds import PARTS, modules_of_kind

LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.mark.parametrize("model_type", TINY)
def test_every_linear_of_every_family_has_a_kind(model_type: str) -> None:
    config: dict[str, Any] = json.loads(tiny_config(model_type).to_json_string(use_diff=False))
    towers = FAMILIES[model_type].towers(config)
    names = {linear.name.rsplit(".", 1)[-1] for blocks in towers.values() for block in blocks for linear in block}
    assert names
    assert names <= PARTS.keys()


def test_a_kind_names_the_modules_that_do_it() -> None:
    assert modules_of_kind(LLAMA, "attention") == LLAMA[:4]
    assert modules_of_kind(LLAMA, "mlp") == LLAMA[4:]
    assert modules_of_kind(LLAMA, "gate-up") == ("gate_proj", "up_proj")
    assert modules_of_kind(LLAMA, "all") == LLAMA


def test_fused_and_vision_projections_have_the_kind_of_their_parts() -> None:
    vision = ("qkv", "proj", "linear_fc1", "linear_fc2")
    assert modules_of_kind(vision, "attention") == ("qkv", "proj")
    assert modules_of_kind(vision, "gate-up") == ("linear_fc1",)
    assert modules_of_kind(vision, "mlp") == ("linear_fc1", "linear_fc2")


def test_an_unknown_module_has_no_kind() -> None:
    with pytest.raises(KeyError):
        modules_of_kind(("conv",), "all")
