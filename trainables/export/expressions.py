"""Writes a placement in the terms of other tools: PEFT, ms-swift, LLaMA-Factory, axolotl, Unsloth and vLLM.

Every expression is of whole module names, so that it matches no module of the same name in another layer or tower.
On Mixtral and Qwen3-MoE, PEFT shortens a regular expression to the last names of what it matches, and so adapts these
in every layer; see `_resolve_string_target_modules` in `peft/utils/transformers_weight_conversion.py`. A base with
experts is therefore given lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.export.module_regex import INDEXED, module_expression
from trainables.model.families import read_configuration
from trainables.model.module_kinds import own_name
from trainables.model.placement import ResolvedPlacement

# the ranks that vLLM allows as its largest
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class ToolExpression:
    """What to write for one tool; `note` says what it does not express, or what to mind."""

    tool: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class PlacedNames:
    """Modules that carry LoRA, by tower; `parameters` are those of experts, which are no modules.

    `sees` says whether the base takes pictures, `has_experts` whether its layers hold experts.
    """

    language: tuple[str, ...]
    vision: tuple[str, ...]
    parameters: tuple[str, ...]
    sees: bool
    has_experts: bool

    @classmethod
    def of(cls, placement: ResolvedPlacement, sees: bool, has_experts: bool) -> PlacedNames:
        """Take the names of a placement."""
        language, vision = placement.linears["language"], placement.linears["vision"]
        return cls(
            language=tuple(one.name for one in language if one.experts == 1),
            vision=tuple(one.name for one in vision),
            parameters=tuple(one.name for one in language if one.experts > 1),
            sees=sees,
            has_experts=has_experts,
        )

    @property
    def modules(self) -> tuple[str, ...]:
        """Return the names of the linears, language first."""
        return (*self.language, *self.vision)


def expressions(placed: PlacedNames, rank: int) -> tuple[ToolExpression, ...]:
    """Return what to write for each tool."""
    written = _of_parameters(placed.parameters) if placed.parameters else _of_modules(placed)
    return (*written, _vllm(placed, rank))


def _of_modules(placed: PlacedNames) -> tuple[ToolExpression, ...]:
    frozen = f" --freeze_llm {_said(not placed.language)} --freeze_vit {_said(not placed.vision)} --freeze_aligner true"
    factory = f"lora_target: {','.join(placed.modules)}"
    if placed.sees:
        factory += (
            f"\nfreeze_language_model: {_said(not placed.language)}\nfreeze_vision_tower: {_said(not placed.vision)}"
        )
    if placed.has_experts:
        python, yaml = _listed(placed.modules), f"[{', '.join(placed.modules)}]"
        swift = f"--target_modules {' '.join(placed.modules)}"
    else:
        expression = module_expression(placed.modules)
        python, yaml, swift = f'r"{expression}"', f"'{expression}'", f"--target_regex '{expression}'"
    return (
        ToolExpression("PEFT", f"LoraConfig(target_modules={python})"),
        ToolExpression("ms-swift", f"{swift}{frozen if placed.sees else ''}"),
        ToolExpression("LLaMA-Factory", factory),
        ToolExpression("axolotl", f"lora_target_modules: {yaml}", "set no lora_target_linear, which adds others"),
        _unsloth(placed, python),
    )


def _of_parameters(parameters: Sequence[str]) -> tuple[ToolExpression, ...]:
    return (
        ToolExpression(
            "PEFT", f"LoraConfig(target_modules=[], target_parameters={_listed(parameters)}, lora_dropout=0.0)"
        ),
        ToolExpression(
            "ms-swift", "", "not known: --target_parameters names them, but whether no linear can be chosen"
        ),
        ToolExpression("LLaMA-Factory", "", "cannot be expressed: it has no key for parameters"),
        ToolExpression(
            "axolotl", f"lora_target_modules: []\nlora_target_parameters: [{', '.join(parameters)}]\nlora_dropout: 0"
        ),
        ToolExpression("Unsloth", "", "not known: nobody tried whether it hands parameters on to PEFT"),
    )


def _unsloth(placed: PlacedNames, targets: str) -> ToolExpression:
    if placed.sees:
        return ToolExpression(
            "Unsloth",
            f"FastVisionModel.get_peft_model(model, target_modules={targets})",
            "`finetune_vision_layers` and the like are read only without target_modules",
        )
    found = [match for name in placed.language if (match := INDEXED.fullmatch(name))]
    own = _listed(dict.fromkeys(own_name(one["own"]) for one in found))
    layers = ", ".join(dict.fromkeys(one["index"] for one in found))
    return ToolExpression(
        "Unsloth",
        f"FastLanguageModel.get_peft_model(model, target_modules={own}, layers_to_transform=[{layers}])",
    )


def _vllm(placed: PlacedNames, rank: int) -> ToolExpression:
    largest = next((one for one in VLLM_RANKS if one >= rank), None)
    if largest is None:
        return ToolExpression("vLLM", "", f"cannot be served: its largest rank is {VLLM_RANKS[-1]}, and this is {rank}")
    towers = " --enable-tower-connector-lora" if placed.vision else ""
    note = "it reads the modules from the adapter"
    if placed.vision:
        note += "; without --enable-tower-connector-lora it leaves LoRA of the vision tower out"
    return ToolExpression(
        "vLLM",
        f"vllm serve BASE --enable-lora --max-lora-rank {largest} --lora-modules NAME=DIR{towers}",
        note,
    )


def _listed(names: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _said(value: bool) -> str:
    return "true" if value else "false"


def axolotl_targets(modules: Sequence[str], by_name: bool, on_experts: bool) -> dict[str, str | list[str]]:
    """Return the keys of axolotl that name the targets; `on_experts` says that they are parameters."""
    if on_experts:
        return {"lora_target_modules": [], "lora_target_parameters": list(modules)}
    return {"lora_target_modules": list(modules) if by_name else module_expression(modules)}


def swift_targets(modules: Sequence[str], by_name: bool) -> dict[str, str | list[str]]:
    """Return the key of ms-swift that names the targets."""
    return {"target_modules": list(modules)} if by_name else {"target_regex": module_expression(modules)}


def has_experts(base: Path) -> bool:
    """True when the base is still there and its layers hold experts."""
    if not (base / "config.json").is_file():
        return False
    family, config = read_configuration(base / "config.json")
    return bool(family.experts(config))
