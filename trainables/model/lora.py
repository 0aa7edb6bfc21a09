"""Places LoRA on a base with PEFT, initializes it, checks the placement, and saves and loads adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from safetensors import safe_open
from safetensors.torch import save_file

from trainables.errors import UserError
from trainables.model.base import Base
from trainables.model.dropout import KeyedDropout, Masks
from trainables.model.families import TOWERS, LinearShape, TowerName
from trainables.model.peft_files import ADAPTER_WEIGHTS, PREFIX, saved_name
from trainables.model.placement import ResolvedPlacement
from trainables.spec import TrialSpec


class PlacementMismatch(Exception):
    """The modules that carry LoRA, or their parameters, are not the requested ones."""


@dataclass
class Adapter:
    """One LoRA adapter; `live` says whether it is on the base. Its parameters stay valid after removal.

    `places` gives the path in PEFT's model of the module that adapts a linear, or a parameter of experts.
    """

    peft_model: PeftModel
    config: LoraConfig
    placement: ResolvedPlacement
    masks: Masks
    by_tower: Mapping[TowerName, list[tuple[str, torch.nn.Parameter]]]
    places: Mapping[str, str]
    live: bool = True

    @property
    def scaling(self) -> float:
        """Return the factor of B A: alpha / rank, or alpha / sqrt(rank) with rsLoRA."""
        return self.config.lora_alpha / (self.config.r**0.5 if self.config.use_rslora else self.config.r)

    def parameters(self, tower: TowerName) -> list[tuple[str, torch.nn.Parameter]]:
        """Return the trained parameters of one tower with their names, in the order of the model."""
        return self.by_tower[tower]

    def trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Return all trained parameters with their names, language first."""
        return [pair for tower in TOWERS for pair in self.parameters(tower)]

    def factors(self, tower: TowerName) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Return lora_A (rank, inputs) and lora_B (outputs, rank) by the name of the linear they adapt.

        Those of experts are views, by the name of the parameter and the number of the expert.
        """
        named = dict(self.parameters(tower))
        found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for one in self.placement.linears[tower]:
            a, b = (named[f"{self.places[one.name]}.{factor}.default.weight"] for factor in ("lora_A", "lora_B"))
            if one.experts == 1:
                found[one.name] = a, b
            else:  # PEFT lays out A as (experts, rank, inputs) and B as (outputs, rank, experts)
                of_a, of_b = a.view(one.experts, -1, one.inputs), b.view(one.outputs, -1, one.experts)
                found |= {f"{one.name}.{number}": (of_a[number], of_b[..., number]) for number in range(one.experts)}
        return found

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the adapter by PEFT's keys."""
        return {name.replace(".default.", "."): p.detach() for name, p in self.trained()}

    def load(self, directory: Path, base_tensors: Collection[str] = ()) -> None:
        """Load tensors saved by PEFT; keys and shapes must be exactly those of this adapter.

        `base_tensors` are tensors of the base in the same file, by their names in the base; they are not loaded.

        Raises:
            UserError: keys or shapes differ.
        """
        saved, own = _saved_tensors(directory, base_tensors), self.state()
        differing = sorted(set(saved) ^ set(own)) or [k for k in own if own[k].shape != saved[k].shape]
        if differing:
            raise UserError(
                f"{directory}: a continued adapter must have the tensors of the new one, but {len(differing)} differ, "
                f"the first is {differing[0]}",
                "base, placement and rank must be those of the saved adapter",
            )
        for key, tensor in own.items():
            tensor.copy_(saved[key])

    def extend_from(self, directory: Path, base_tensors: Collection[str] = ()) -> None:
        """Load a saved adapter that covers a part of this one; new modules keep their initialization (lora_B is 0).

        `base_tensors` are tensors of the base in the same file, by their names in the base; they are not loaded.

        Raises:
            UserError: the file has no tensor, or a tensor that this adapter lacks or has in another shape.
            PlacementMismatch: after loading, this adapter does not compute the same as the saved one.
        """
        saved, own = _saved_tensors(directory, base_tensors), self.state()
        foreign = [key for key, tensor in saved.items() if key not in own or own[key].shape != tensor.shape]
        if foreign or not saved:
            raise UserError(
                f"{directory}: an extended adapter must hold the tensors of the saved one, but {len(foreign)} of "
                f"{len(saved)} differ{': ' + foreign[0] if foreign else ''}",
                "base and rank must be those of the saved adapter, and the placement must contain its own",
            )
        for key, tensor in saved.items():
            own[key].copy_(tensor)
        changed = [key for key, tensor in saved.items() if not torch.equal(own[key].cpu(), tensor.to(own[key].dtype))]
        nonzero = [key for key, tensor in own.items() if key not in saved and "lora_B" in key and bool(tensor.any())]
        if changed or nonzero:
            raise PlacementMismatch(
                f"an extended adapter must equal its parent, but {len(changed)} of its tensors changed and "
                f"{len(nonzero)} new modules are not zero: {(changed + nonzero)[0]}"
            )

    def save(self, directory: Path) -> None:
        """Write `adapter_model.safetensors` and `adapter_config.json`, which PEFT can load."""
        tensors = {key: tensor.cpu().contiguous() for key, tensor in self.state().items()}
        save_file(tensors, str(directory / ADAPTER_WEIGHTS), metadata={"format": "pt"})
        config = copy(self.config)
        config.inference_mode = True  # as PEFT saves it; a loader that trains passes is_trainable=True
        config.save_pretrained(str(directory))

    def remove(self) -> None:
        """Remove the adapter from the base, which is then unchanged."""
        if not self.live:
            return
        model = self.peft_model.unload()
        model.requires_grad_(False)
        model.eval()
        self.live = False


def _saved_tensors(directory: Path, base_tensors: Collection[str]) -> dict[str, torch.Tensor]:
    with safe_open(str(directory / ADAPTER_WEIGHTS), framework="pt") as file:
        keys = {saved_name(key): key for key in file.keys()}  # noqa: SIM118 a file is no dict
        return {name: file.get_tensor(keys[name]) for name in keys if name.removeprefix(PREFIX) not in base_tensors}


def place(base: Base, spec: TrialSpec, placement: ResolvedPlacement) -> Adapter:
    """Place a new LoRA adapter on the base and check which modules carry it.

    Trials of format 1 keep PEFT's initialization, drawn in module order from the global generator. Trials of format 2
    use `initial_a`, so that a module of two placements has the same initial weights in both.

    Raises:
        PlacementMismatch: the wrapped modules, their widths, or the trained parameters are not the expected ones.
    """
    torch.manual_seed(spec.seed)
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,  # type: ignore[arg-type] PEFT computes with floats
        lora_dropout=spec.dropout,
        use_rslora=spec.rslora,
        target_modules=[one.name for tower in TOWERS for one in placement.linears[tower] if one.experts == 1],
        target_parameters=[one.name for tower in TOWERS for one in placement.linears[tower] if one.experts > 1] or None,
        base_model_name_or_path=str(base.path),
        task_type="CAUSAL_LM",
    )
    peft_model = get_peft_model(base.model, config)
    masks = Masks(spec.seed, spec.dropout)
    places = {one.name: path for path, one in adapted(peft_model).items()}
    adapter = Adapter(peft_model, config, placement, masks, _by_tower(peft_model, placement), places)
    with ExitStack() as cleanup:
        cleanup.callback(adapter.remove)  # if a check fails
        _check_placed(adapter, spec)
        if spec.format > 1:
            _initialize(adapter, spec.seed)
        _replace_dropout(adapter)
        peft_model.eval()  # PEFT creates modules in training mode, in which evals would apply dropout
        cleanup.pop_all()
    return adapter


@contextmanager
def without_lora(base: Base, towers: Collection[TowerName]) -> Iterator[None]:
    """Let the LoRA on the linears of these towers of a base add nothing.

    The factor of B A is 0 meanwhile. PEFT's `disable_adapter` knows no towers, and changes which tensors are trained.
    """
    names = {linear.name for tower in towers for block in base.towers[tower] for linear in block}
    layers = [module for name, module in base.model.named_modules() if name in names and isinstance(module, LoraLayer)]
    kept = [dict(layer.scaling) for layer in layers]
    try:
        for layer in layers:
            layer.scaling.update(dict.fromkeys(layer.scaling, 0.0))
        yield
    finally:
        for layer, scaling in zip(layers, kept, strict=True):
            layer.scaling.update(scaling)


def initial_a(seed: int, module: str, rank: int, inputs: int) -> torch.Tensor:
    """Draw the initial lora_A of one module: (rank, inputs) in float32 on the CPU, from PEFT's distribution.

    `module` is the name of the module in the base model. The values depend only on `seed` and `module`. Rows are drawn
    one after another, so the weights of a smaller rank are a prefix of those of a larger rank.
    """
    digest = hashlib.sha256(f"{seed}/{module}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    bound = inputs**-0.5  # of kaiming_uniform_(a=sqrt(5)), which PEFT uses
    rows = [torch.empty(inputs, dtype=torch.float32).uniform_(-bound, bound, generator=generator) for _ in range(rank)]
    return torch.stack(rows)


@torch.no_grad()
def _initialize(adapter: Adapter, seed: int) -> None:
    for tower in TOWERS:
        for name, (a, b) in adapter.factors(tower).items():
            a.copy_(initial_a(seed, name, *a.shape))
            b.zero_()


def adapted(peft_model: PeftModel) -> dict[str, LinearShape]:
    """Return what carries LoRA, by the path of its module in PEFT's model: linears, and parameters of experts."""
    found: dict[str, LinearShape] = {}
    for path, module in peft_model.named_modules():
        if isinstance(module, LoraLayer):
            name, experts = path.removeprefix("base_model.model."), 1
            if isinstance(module, ParamWrapper):  # PEFT wraps the wrapper once more for each further parameter
                name, experts = f"{name.replace('.base_layer', '')}.{module.parameter_name}", module.num_experts
            found[path] = LinearShape(name, int(module.in_features or 0), int(module.out_features or 0), experts)
    return found


def _by_tower(
    peft_model: PeftModel, placement: ResolvedPlacement
) -> dict[TowerName, list[tuple[str, torch.nn.Parameter]]]:
    named = [(name, p) for name, p in peft_model.named_parameters() if "lora_" in name]
    names = {path: one.name for path, one in adapted(peft_model).items()}
    placed = {tower: {linear.name for linear in placement.linears[tower]} for tower in TOWERS}
    return {tower: [(name, p) for name, p in named if names[name.split(".lora_")[0]] in placed[tower]]
            for tower in TOWERS}  # fmt: skip


def _replace_dropout(adapter: Adapter) -> None:
    for name, module in adapter.peft_model.named_modules():
        if isinstance(module, LoraLayer) and not isinstance(module, ParamWrapper):
            module.lora_dropout["default"] = KeyedDropout(adapter.masks, name.removeprefix("base_model.model."))


def _check_placed(adapter: Adapter, spec: TrialSpec) -> None:
    placement = adapter.placement
    wrapped = {one.name: one for one in adapted(adapter.peft_model).values()}
    expected = {linear.name: linear for tower in TOWERS for linear in placement.linears[tower]}
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
