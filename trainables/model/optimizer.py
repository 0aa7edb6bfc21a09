"""The optimizer of one trial: AdamW with a learning rate per tower, and gradient clipping."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from trainables.errors import UserError
from trainables.model.families import TOWERS, TowerName
from trainables.model.lora import Adapter
from trainables.model.peft_files import OPTIMIZER_WEIGHTS
from trainables.schedule import rate_factor
from trainables.spec import TrialSpec

ADAM_BETA1 = 0.9


class Optimizer:
    """AdamW on one adapter; the rate of each tower is its peak rate times the factor of the schedule."""

    def __init__(self, adapter: Adapter, spec: TrialSpec) -> None:
        self.spec = spec
        self.named = adapter.trained()
        self.peaks: dict[TowerName, float] = {
            "language": spec.learning_rate,
            "vision": spec.vision_learning_rate,
        }
        towers: list[TowerName] = [tower for tower in TOWERS if adapter.parameters(tower)]
        groups = [{"params": [p for _, p in adapter.parameters(tower)], "tower": tower} for tower in towers]
        betas = (ADAM_BETA1, spec.adam_beta2)
        self.adamw = torch.optim.AdamW(groups, lr=0.0, betas=betas, weight_decay=spec.weight_decay)

    def step(self, step: int) -> float:
        """Clip, update with the rates of `step` and clear the gradients; return the gradient norm before clipping."""
        factor = rate_factor(
            step, self.spec.steps, self.spec.warmup_ratio, self.spec.min_rate_ratio, self.spec.schedule
        )
        for group in self.adamw.param_groups:
            group["lr"] = self.peaks[group["tower"]] * factor
        norm = torch.nn.utils.clip_grad_norm_([p for _, p in self.named], self.spec.max_gradient_norm)
        self.adamw.step()
        self.forget_gradients()
        return float(norm)

    def forget_gradients(self) -> None:
        """Drop the gradients, also those of a step that broke off."""
        self.adamw.zero_grad(set_to_none=True)

    def save(self, directory: Path) -> None:
        """Write the moments and step counts of every parameter as safetensors."""
        tensors = {
            f"{name}.{key}": value.detach().cpu().contiguous()
            for name, parameter in self.named
            for key, value in self.adamw.state[parameter].items()
        }
        save_file(tensors, str(directory / OPTIMIZER_WEIGHTS))

    def load(self, directory: Path) -> None:
        """Load the state that `save` wrote.

        Raises:
            UserError: the state is missing, or that of a parameter is.
        """
        path = directory / OPTIMIZER_WEIGHTS
        if not path.is_file():
            raise UserError(
                f"{directory}: a resumed optimizer needs {OPTIMIZER_WEIGHTS}, but there is none",
                "continue from a checkpoint or `best` of a trial, or with optimizer `fresh`",
            )
        saved, keys = load_file(str(path)), ("step", "exp_avg", "exp_avg_sq")
        missing = [f"{name}.{key}" for name, _ in self.named for key in keys if f"{name}.{key}" not in saved]
        if missing:
            raise UserError(
                f"{path}: every trained tensor needs its optimizer state, but {len(missing)} are missing: {missing[0]}",
                "an adapter saved before its first step has no optimizer state: continue with optimizer `fresh`",
            )
        for name, parameter in self.named:
            state = {key: saved[f"{name}.{key}"] for key in keys}
            self.adamw.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device) for key, value in state.items()
            }
