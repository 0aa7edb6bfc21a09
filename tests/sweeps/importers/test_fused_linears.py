"""Tests imports on bases with fused linears, and on a base whose vision tower is never trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from tiny_families import TINY, tiny_config

from sweeps.importers.files import TOOLS, tool_of
from sweeps.importers.parsing import parse_config
from sweeps.importers.settings import ImportedSettings, settings_of
from trainables.errors import UserError
from trainables.export.trial import ExportedTrial, export_trial
from trainables.io.strict_yaml import parse_yaml
from trainables.model.families import FAMILIES
from trainables.model.placement import resolve
from trainables.spec import Placement, Source, parse_spec

GIVEN = ("base", "train", "validation", "ood")
AXOLOTL = "base_model: b\nadapter: lora\nlora_r: 4\nlora_alpha: 8\nlearning_rate: 1.0e-4\nval_set_size: 0.1\n"
LLAMAFACTORY = "model_name_or_path: b\nstage: sft\ndo_train: true\nfinetuning_type: lora\nlora_rank: 4\n"
SWIFT = "model: b\nlora_rank: 4\n"
DECODERS = [family for family in TINY if family != "mistral3"]


def config_of(family: str) -> dict[str, Any]:
    return json.loads(tiny_config(family).to_json_string(use_diff=True))


def imported(text: str, family: str) -> ImportedSettings:
    document, config = parse_yaml(text, Path("c.yaml")), config_of(family)
    parsed = parse_config(document, tool_of(document), GIVEN)
    return settings_of(parsed, FAMILIES[family].towers(config), config, 1000)


def refused(text: str, family: str) -> UserError:
    with pytest.raises(UserError) as caught:
        imported(text, family)
    return caught.value


def targets(*names: str) -> str:
    return AXOLOTL + f"lora_target_modules: [{', '.join(names)}]\n"


def modules_of(found: ImportedSettings, family: str) -> set[str]:
    towers = FAMILIES[family].towers(config_of(family))
    return set(resolve(found.placement, towers, found.as_values()["target_modules"]).module_names)


def adapted_by_peft(family: str, target_modules: Any) -> tuple[set[str], int]:
    """Return what PEFT adapts on the model, and the parameters that it then trains at rank 4."""
    with torch.device("meta"):
        model = getattr(transformers, FAMILIES[family].model_class)(tiny_config(family))
        config = LoraConfig(r=4, target_modules=target_modules, task_type="CAUSAL_LM")
        adapted = get_peft_model(model, config)
    names = {name.removeprefix("base_model.model.").removesuffix(".lora_A.default")
             for name, _ in adapted.named_modules() if name.endswith(".lora_A.default")}  # fmt: skip
    return names, adapted.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize("family", DECODERS)
def test_all_linear_is_what_peft_adapts(family: str) -> None:
    found = imported(AXOLOTL + "lora_target_linear: true\n", family)
    names, parameters = adapted_by_peft(family, "all-linear")
    assert modules_of(found, family) == names
    towers = FAMILIES[family].towers(config_of(family))
    assert resolve(found.placement, towers).total_parameters(4) == parameters


@pytest.mark.parametrize(
    ("family", "names", "expected"),
    [
        ("phi3", ("q_proj", "k_proj", "v_proj", "o_proj"), ("qkv_proj", "o_proj")),
        ("phi3", ("qkv_proj", "down_proj"), ("qkv_proj", "down_proj")),
        ("phi3", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("qkv_proj",)),
        ("phi3", ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), ()),
        ("glm4", ("gate_proj", "up_proj"), ("gate_up_proj",)),
        ("glm4", ("q_proj", "v_proj"), ("q_proj", "v_proj")),
        ("glm", ("q_proj", "gate_up_proj"), ("q_proj", "gate_up_proj")),
        ("smollm3", ("q_proj", "v_proj"), ("q_proj", "v_proj")),
    ],
)
def test_all_parts_of_a_fused_linear_are_the_linear(
    family: str, names: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    found = imported(targets(*names), family)
    assert found.as_values()["target_modules"] == expected
    if expected:
        assert modules_of(found, family) == adapted_by_peft(family, list(expected))[0]
    replaced = family == "phi3" and "qkv_proj" not in names
    assert ("q_proj, k_proj, v_proj are qkv_proj here" in found.where.source) is replaced
    differs = next(one.differs for one in found.settings if one.name == "target_modules")
    assert ("which the tool leaves out" in differs) is (" here" in found.where.source)


@pytest.mark.parametrize(
    ("family", "names", "expected", "fused"),
    [
        ("phi3", ("q_proj", "v_proj"), "q_proj, v_proj are parts of qkv_proj, one fused linear", "qkv_proj"),
        ("phi3", ("v_proj", "o_proj"), "v_proj is a part of qkv_proj, one fused linear", "qkv_proj"),
        ("phi3", ("q_proj", "k_proj", "v_proj", "up_proj"), "up_proj is a part of gate_up_proj", "gate_up_proj"),
        ("glm4", ("q_proj", "gate_proj"), "gate_proj is a part of gate_up_proj", "gate_up_proj"),
    ],
)
def test_a_part_alone_is_refused_at_its_line(family: str, names: tuple[str, ...], expected: str, fused: str) -> None:
    error = refused(targets(*names), family)
    assert "c.yaml:7: `lora_target_modules` must name whole linears" in error.message and expected in error.message
    assert f"name {fused}, which is " in (error.hint or "")
    given = ",".join(names)
    other = refused(LLAMAFACTORY + f"lora_target: {given}\n", family)
    assert expected in other.message and "c.yaml:6: `lora_target`" in other.message


def test_an_expression_for_parts_is_the_linear_or_refused() -> None:
    either = "lora_target_modules: 'model\\.layers\\.[23]\\.(self_attn|mlp)\\.({})_proj'\n"
    found = imported(AXOLOTL + either.format("q|k|v"), "phi3")
    assert (found.placement, found.as_values()["target_modules"]) == (Placement(language=2), ("qkv_proj",))
    assert "q_proj is a part of qkv_proj" in refused(AXOLOTL + either.format("q|o"), "phi3").message


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("family", ["phi3", "glm4", "smollm3", "mistral3"])
def test_what_is_exported_is_imported_as_the_same_placement(family: str, tool: str) -> None:
    config = config_of(family)
    towers = FAMILIES[family].towers(config)
    sources = {key: Source(path=Path(f"/data/{key}"), sha256=key) for key in GIVEN}
    spec = parse_spec({"name": "A", "placement": {"language": 2, "vision": 0}, "seed": 1, **sources})
    modules = resolve(spec.placement, towers).module_names
    text = export_trial(ExportedTrial(spec, modules), tool)
    found = imported(text, family)
    assert (found.placement, found.as_values()["target_modules"]) == (spec.placement, ())


# -------------------------------------------------------------------- a vision tower that is never trained
@pytest.mark.parametrize("text", [targets("q_proj", "v_proj"), AXOLOTL + "lora_target_linear: true\n"])
def test_a_target_within_the_untrained_tower_of_mistral3_is_refused(text: str) -> None:
    error = refused(text, "mistral3")
    assert "must name layers of the towers only, but it also names model." in error.message
    assert "never adapted here" in error.message


@pytest.mark.parametrize("text", [LLAMAFACTORY + "lora_target: all\n", SWIFT + "target_modules: all-linear\n"])
def test_tools_that_freeze_the_tower_of_mistral3_adapt_the_decoder_alone(text: str) -> None:
    found = imported(text, "mistral3")
    assert (found.placement, found.as_values()["target_modules"]) == (Placement(language=4), ())
