"""Tests the kinds of linears: every linear of every family has one, and a fused projection is all its parts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tiny_families import TINY, tiny_config

from trainables.errors import UserError
from trainables.model.families import FAMILIES
from trainables.model.module_kinds import PARTS, modules_of_kind, name_hint, whole_linears

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


# -------------------------------------------------------------------- fused linears
PHI3 = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
GLM = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj")


@pytest.mark.parametrize(
    ("requested", "own", "expected"),
    [
        (LLAMA, PHI3, PHI3),
        (("v_proj", "o_proj", "k_proj", "q_proj"), PHI3, ("qkv_proj", "o_proj")),
        (("q_proj", "qkv_proj"), PHI3, ("qkv_proj",)),  # the part is in the linear that is named too
        (LLAMA, GLM, GLM),
        (("q_proj",), GLM, ("q_proj",)),
        (LLAMA, LLAMA, LLAMA),
        (("other", "o_proj"), PHI3, ("other", "o_proj")),  # left to the caller
        (("q_proj",), (*LLAMA, "qkv", "proj"), ("q_proj",)),  # of the decoder, beside a fused vision tower
        ((), PHI3, ()),
    ],
)
def test_all_parts_of_a_fused_linear_are_the_linear(
    requested: tuple[str, ...], own: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert whole_linears(requested, own) == expected


@pytest.mark.parametrize(
    ("requested", "own", "expected"),
    [
        (("q_proj", "v_proj"), PHI3, "q_proj, v_proj are parts of qkv_proj"),
        (("q_proj", "k_proj", "v_proj", "gate_proj"), PHI3, "gate_proj is a part of gate_up_proj"),
        (("up_proj",), GLM, "up_proj is a part of gate_up_proj"),
    ],
)
def test_a_part_of_a_fused_linear_is_refused(requested: tuple[str, ...], own: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        whole_linears(requested, own)
    assert "LoRA adapts a linear as a whole" in (caught.value.hint or "")


def test_a_fused_name_on_a_base_without_it_is_told_its_parts() -> None:
    assert name_hint("qkv_proj", LLAMA) == "its parts are linears of their own here: q_proj, k_proj, v_proj"
    assert "q_proj" in name_hint("q_prj", LLAMA)
