"""LoRA on a base: placed through PEFT, proved to be where it was asked for, saved and loaded in PEFT's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from trainables.base import Base
from trainables.errors import UserError
from trainables.placement import ResolvedPlacement
from trainables.record import read_json
from trainables.spec import TrialSpec
from trainables.towers import TOWERS, TowerName

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


class PlacementMismatch(Exception):
    """The modules that carry LoRA are not the modules that were asked for; the trial must not train."""


@dataclass(frozen=True)
class Adapter:
    """One LoRA adapter on a live base."""

    peft_model: PeftModel
    placement: ResolvedPlacement

    def parameters(self, tower: TowerName) -> list[tuple[str, torch.nn.Parameter]]:
        """Return the trained parameters of one tower by name, in the model's order."""
        prefixes = tuple(f"base_model.model.{linear.name}." for linear in self.placement.linears[tower])
        return [
            (name, p) for name, p in self.peft_model.named_parameters() if name.startswith(prefixes) and "lora_" in name
        ]

    def trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Return all trained parameters by name, language first."""
        return [pair for tower in TOWERS for pair in self.parameters(tower)]

    def state(self) -> dict[str, torch.Tensor]:
        """Return the adapter's tensors under PEFT's own keys."""
        return get_peft_model_state_dict(self.peft_model)

    def load(self, directory: Path) -> None:
        """Load tensors saved by PEFT; every key must be there and none may be left over.

        Raises:
            UserError: keys or shapes of the file differ from this adapter's.
        """
        saved, own = load_file(directory / ADAPTER_WEIGHTS), self.state()
        differing = sorted(set(saved) ^ set(own)) or [k for k in own if own[k].shape != saved[k].shape]
        if differing:
            raise UserError(
                f"{directory}: a continued adapter must have the tensors of the new one, but {len(differing)} differ, "
                f"the first is {differing[0]}",
                "base, placement and rank must be those of the saved adapter",
            )
        set_peft_model_state_dict(self.peft_model, saved)

    def save(self, directory: Path) -> None:
        """Write `adapter_model.safetensors` and `adapter_config.json`, loadable by plain PEFT."""
        self.peft_model.save_pretrained(str(directory))
        (directory / "README.md").unlink(missing_ok=True)  # PEFT's card says nothing; `best/` gets an honest one

    def remove(self) -> None:
        """Take the adapter off the base, which is then what it was before."""
        model = self.peft_model.unload()
        model.requires_grad_(False)
        model.eval()


def place(base: Base, spec: TrialSpec, placement: ResolvedPlacement) -> Adapter:
    """Put a fresh LoRA adapter on the base and prove where it is.

    Raises:
        PlacementMismatch: the wrapped modules, their widths, or the trained parameters are not the expected ones.
    """
    torch.manual_seed(spec.seed)
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,  # type: ignore[arg-type] PEFT computes with floats
        lora_dropout=spec.dropout,
        use_rslora=spec.rslora,
        target_modules=list(placement.module_names),
        base_model_name_or_path=str(base.path),
        task_type="CAUSAL_LM",
    )
    adapter = Adapter(get_peft_model(base.model, config), placement)
    _prove(adapter, spec)
    return adapter


def check_continues(directory: Path, spec: TrialSpec) -> None:
    """Refuse to continue an adapter of another rank or scale; another placement shows when it is loaded.

    Raises:
        UserError: saying which setting differs.
    """
    path = directory / ADAPTER_CONFIG
    if not path.is_file() or not (directory / ADAPTER_WEIGHTS).is_file():
        raise UserError(f"{directory}: an adapter directory must hold {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}")
    saved: Mapping[str, Any] = read_json(path)
    for key, own in (("r", spec.rank), ("lora_alpha", spec.alpha), ("use_rslora", spec.rslora)):
        if saved.get(key) != own:
            raise UserError(f"{path}: `{key}` must equal this trial's, but it is {saved.get(key)} and not {own}")


def _prove(adapter: Adapter, spec: TrialSpec) -> None:
    placement = adapter.placement
    wrapped = {
        name.removeprefix("base_model.model."): (module.in_features, module.out_features)
        for name, module in adapter.peft_model.named_modules()
        if isinstance(module, LoraLayer)
    }
    expected = {linear.name: (linear.inputs, linear.outputs) for tower in TOWERS for linear in placement.linears[tower]}
    if wrapped != expected:
        extra, missing = sorted(set(wrapped) - set(expected)), sorted(set(expected) - set(wrapped))
        raise PlacementMismatch(f"adapted modules differ from the placement: extra {extra[:3]}, missing {missing[:3]}")
    trainable = {name for name, p in adapter.peft_model.named_parameters() if p.requires_grad}
    if trainable != {name for name, _ in adapter.trained()}:
        raise PlacementMismatch("the trainable parameters are not exactly the adapter's")
    for tower in TOWERS:
        counted = sum(p.numel() for _, p in adapter.parameters(tower))
        if counted != placement.parameters(tower, spec.rank):
            raise PlacementMismatch(
                f"{tower} trains {counted:,} parameters, expected {placement.parameters(tower, spec.rank):,}"
            )
