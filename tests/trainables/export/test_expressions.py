"""Tests expressions for other tools by giving them to PEFT, which all of these tools call, on every family."""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
import transformers
import yaml
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from tiny_families import TINY_EXPERTS, TINY_SEEING, TINY_TEXT, tiny_config, tiny_vision_config

from trainables.export.expressions import PlacedNames, axolotl_targets, expressions, has_experts, swift_targets
from trainables.export.module_regex import module_expression
from trainables.model.families import FAMILIES
from trainables.model.placement import ResolvedPlacement, resolve
from trainables.spec import Placement

SCHEMAS = json.loads(Path(__file__).with_name("tool_schemas.json").read_text(encoding="utf-8"))
ATTENTION, IN_VISION = ("q_proj", "k_proj", "v_proj", "o_proj"), ("qkv", "proj")


@cache
def config_of(family: str) -> Any:
    return tiny_vision_config(family) if family in TINY_SEEING else tiny_config(family)


def adapted_by(family: str, **settings: Any) -> set[str]:
    """Return what PEFT adapts in a model without weights."""
    with torch.device("meta"):
        model = getattr(transformers, FAMILIES[family].model_class)(config_of(family))
        wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, **settings))
    return {
        name.removeprefix("base_model.model.").replace(".base_layer", "")
        + (f".{module.parameter_name}" if isinstance(module, ParamWrapper) else "")
        for name, module in wrapped.named_modules()
        if isinstance(module, LoraLayer)
    }


def placed_on(family: str, placement: Placement, targets: tuple[str, ...] = ()) -> ResolvedPlacement:
    towers = FAMILIES[family].towers(json.loads(config_of(family).to_json_string(use_diff=True)))
    return resolve(placement, towers, targets)


def settings_of(tool: str, text: str) -> dict[str, Any]:
    """Return what a tool hands on to PEFT, read in the tool's own syntax."""
    if tool == "PEFT":
        kept = SimpleNamespace(LoraConfig=lambda **given: given)
        return eval(text, {"LoraConfig": kept.LoraConfig})  # noqa: S307 our own text, as a user would paste it
    if tool == "Unsloth":
        model = SimpleNamespace(get_peft_model=lambda _, **given: given)
        return eval(text, {"FastVisionModel": model, "FastLanguageModel": model, "model": None})  # noqa: S307
    if tool == "ms-swift":
        values = {words[0]: words[1:] for words in (shlex.split(part) for part in text.split("--")) if words}
        assert set(values) <= set(SCHEMAS["ms-swift"]["keys"])
        return {"target_modules": values.get("target_modules") or values["target_regex"][0]}
    values = yaml.safe_load(text)
    if tool == "LLaMA-Factory":
        assert set(values) <= set(SCHEMAS["llamafactory"]["keys"])
        return {"target_modules": values["lora_target"].split(",")}
    assert set(values) <= set(SCHEMAS["axolotl"]["keys"])
    names = {"lora_target_modules": "target_modules", "lora_target_parameters": "target_parameters"}
    return {names[key]: value for key, value in values.items() if key in names}


@pytest.mark.parametrize("kind", ["all", "attention"])
@pytest.mark.parametrize("family", [*TINY_TEXT, *TINY_SEEING])
def test_every_expression_adapts_exactly_the_placed_modules(family: str, kind: str) -> None:
    sees = family in TINY_SEEING
    targets = (*ATTENTION, *(IN_VISION if sees else ())) if kind == "attention" else ()
    placement = placed_on(family, Placement(language=2, vision=3 if sees else 0), targets)
    placed = PlacedNames.of(placement, sees, has_experts="moe" in family or family == "mixtral")
    found = {one.tool: one for one in expressions(placed, 16)}
    assert list(found) == ["PEFT", "ms-swift", "LLaMA-Factory", "axolotl", "Unsloth", "vLLM"]
    for tool in list(found)[:-1]:
        assert adapted_by(family, **settings_of(tool, found[tool].text)) == set(placement.module_names), tool
    assert ("--enable-tower-connector-lora" in found["vLLM"].text) is bool(placed.vision)


@pytest.mark.parametrize("family", TINY_EXPERTS)
def test_experts_are_named_by_their_parameters_where_a_tool_can(family: str) -> None:
    placement = placed_on(family, Placement(language=2), ("experts",))
    found = {one.tool: one for one in expressions(PlacedNames.of(placement, sees=False, has_experts=True), 16)}
    for tool in ("PEFT", "axolotl"):
        assert adapted_by(family, **settings_of(tool, found[tool].text)) == set(placement.module_names), tool
    for tool in ("ms-swift", "LLaMA-Factory", "Unsloth"):
        assert (found[tool].text, bool(found[tool].note)) == ("", True)


@pytest.mark.parametrize(("rank", "largest"), [(1, "1"), (2, "8"), (16, "16"), (17, "32"), (512, "512")])
def test_vllm_is_given_the_next_of_its_ranks(rank: int, largest: str) -> None:
    placed = PlacedNames.of(placed_on("llama", Placement(language=1)), sees=False, has_experts=False)
    assert f"--max-lora-rank {largest} " in expressions(placed, rank)[-1].text


def test_a_rank_that_vllm_cannot_serve_is_said() -> None:
    placed = PlacedNames.of(placed_on("llama", Placement(language=1)), sees=False, has_experts=False)
    assert expressions(placed, 513)[-1].text == ""
    assert "its largest rank is 512" in expressions(placed, 513)[-1].note


@pytest.mark.parametrize("family", TINY_EXPERTS)
def test_peft_takes_an_expression_for_every_layer_of_a_base_with_experts(family: str) -> None:
    """Why such a base is given lists; when this fails, they are no longer needed."""
    placement = placed_on(family, Placement(language=2))
    assert adapted_by(family, target_modules=list(placement.module_names)) == set(placement.module_names)
    assert adapted_by(family, target_modules=module_expression(placement.module_names)) > set(placement.module_names)


def test_an_exported_trial_on_a_base_with_experts_names_its_modules(tmp_path: Path) -> None:
    modules = ("model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj")
    (tmp_path / "config.json").write_text(config_of("mixtral").to_json_string(), encoding="utf-8")
    assert has_experts(tmp_path)
    assert not has_experts(tmp_path / "gone")
    for keys in (axolotl_targets(modules, True, False), swift_targets(modules, True)):
        assert list(keys.values()) == [list(modules)]
    parameters = ("model.layers.1.mlp.experts.down_proj",)
    assert axolotl_targets(parameters, True, True) == {
        "lora_target_modules": [], "lora_target_parameters": list(parameters)
    }  # fmt: skip
