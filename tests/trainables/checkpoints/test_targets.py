"""Compares which modules a configuration adapts with PEFT's own decision."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.checkpoints.targets import Targets

NAMES = [
    f"model.{tower}.{index}.{part}"
    for tower in ("language_model.layers", "visual.blocks")
    for index in (0, 1, 2, 11)
    for part in ("self_attn.q_proj", "self_attn.v_proj", "attn.qkv", "mlp.down_proj", "mlp.experts.3.down_proj")
] + ["lm_head", "model.visual.merger.linear_fc1", "q_proj"]
CONFIGS: list[dict[str, Any]] = [
    {"target_modules": ["q_proj", "v_proj"]},
    {"target_modules": ["self_attn.q_proj", "model.visual.blocks.11.attn.qkv", "proj"]},
    {"target_modules": ["lm_head", "merger.linear_fc1"]},
    {"target_modules": r".*language_model\.layers\.(1|2)\.self_attn\.[qv]_proj"},
    {"target_modules": r"q_proj"},
    {"target_modules": ["q_proj", "down_proj", "qkv"], "layers_to_transform": [1, 11]},
    {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": 0},
    {"target_modules": ["q_proj", "model.language_model.layers.1.mlp.down_proj"], "layers_to_transform": [2]},
    {"target_modules": ["q_proj", "qkv"], "layers_to_transform": [2], "layers_pattern": "blocks"},
    {"target_modules": ["q_proj", "qkv"], "layers_to_transform": [2], "layers_pattern": ["blocks", "layers"]},
    {"target_modules": ["q_proj"], "layers_to_transform": []},
    {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["11.self_attn.v_proj", "q_proj"]},
    {"target_modules": ["q_proj", "v_proj", "qkv"], "exclude_modules": r".*visual.*"},
    {"target_modules": ["q_proj"], "exclude_modules": ""},
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_adapted_modules_are_those_that_peft_matches(config: dict[str, Any]) -> None:
    from peft import LoraConfig
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists

    peft_config = LoraConfig(**config)
    matches = {name: check_target_module_exists(peft_config, name) for name in NAMES}
    expected = {name for name, found in matches.items() if found and not isinstance(found, _ExcludedModule)}
    assert Targets.of(config).adapted(NAMES) == expected


def test_the_short_form_of_all_linear_layers_takes_them_all_but_those_that_are_excluded() -> None:
    targets = Targets.of({"target_modules": "All-Linear", "exclude_modules": ["qkv"]})
    assert targets.is_all_linear
    assert targets.adapted(["a.qkv", "a.q_proj"]) == {"a.q_proj"}


def test_a_choice_left_to_peft_matches_nothing() -> None:
    assert Targets.of({"target_modules": None}).adapted(NAMES) == frozenset()
