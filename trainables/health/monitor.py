"""Collects gradients, rates and weights of a training trial for the health checks; finds dead modules.

Its state is part of the checkpoint, so that a resumed trial gets the same checks as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from trainables.health.checks import LIMITS, EvalFacts, Finding, StepFacts, judge_eval, judge_step
from trainables.io.files import read_json, write_json
from trainables.model.families import TOWERS, TowerName
from trainables.model.lora import Adapter
from trainables.model.optimizer import Optimizer, rate_factor

MONITOR_FILE = "vitals.json"


class HealthMonitor:
    """Monitors one trial; `uniform_loss` is ln(vocabulary), `baseline_loss` the eval loss of the baseline."""

    def __init__(self, adapter: Adapter, optimizer: Optimizer, uniform_loss: float, baseline_loss: float) -> None:
        self.adapter, self.optimizer, self.uniform_loss = adapter, optimizer, uniform_loss
        self.history: list[StepFacts] = []
        self.degraded: list[Finding] = []
        self.rate_sum = 0.0
        self.last_eval = EvalFacts(0, baseline_loss, 0.0, 0.0)
        self._gradients: dict[str, float] = {}
        self._dead: list[str] = []
        self._must_check_modules = False  # at the next step whose rows pass through a tower with LoRA
        self._at_last_eval = _weights(adapter)
        # cached, because looking parameters up by name is slow compared with a step
        self._parameters: dict[TowerName, list[torch.nn.Parameter]] = {
            tower: [p for _, p in adapter.parameters(tower)] for tower in reached_towers(adapter, has_images=True)
        }

    def see_gradients(self, has_images: bool) -> None:
        """Read the gradients of a step before the optimizer uses and clears them."""
        reached: list[TowerName] = [tower for tower in self._parameters if tower == "language" or has_images]
        self._gradients = {tower: gradient_norm(self._parameters[tower]) for tower in reached}
        self._dead = dead_modules(self.adapter, reached, "lora_B") if self._must_check_modules and reached else []
        self._must_check_modules = self._must_check_modules and not reached

    def after_step(self, step: int, loss: float, gradient_norm: float) -> Finding | None:
        """Check a completed step; return the finding that ends the trial, if any."""
        rates = {group["tower"]: float(group["lr"]) for group in self.optimizer.adamw.param_groups}
        facts = StepFacts(
            step, loss, gradient_norm, dict(self._gradients), rates, self._expected(step), self.uniform_loss
        )
        self.history = [*self.history, facts][-LIMITS.spike_window_steps :]
        # a tower without a row in the step does not move, so its rate does not count
        self.rate_sum += sum(rates.get(tower, 0.0) for tower in self._gradients)
        finding = judge_step(self.history)
        if self._dead and (finding is None or finding.level == "degraded"):
            evidence = f"no gradient in {len(self._dead)} modules after the first eval, the first is {self._dead[0]}"
            return Finding("zero_gradient", "invalid", step, evidence)
        return self._ending(finding)

    def after_eval(self, step: int, eval_loss: float) -> Finding | None:
        """Compare an eval with the previous one; after the first, the next step checks all modules' gradients (F36)."""
        own = _weights(self.adapter)
        distance, norm = _distance(own, self._at_last_eval), _distance(own, None)
        now = EvalFacts(step, eval_loss, distance / norm if norm else 0.0, self.rate_sum)
        # the first eval can replace the kernels of the base (failure F36)
        self._must_check_modules = self._must_check_modules or self.last_eval.step == 0
        finding = judge_eval(self.last_eval, now)
        self.last_eval, self._at_last_eval, self.rate_sum = now, own, 0.0
        return self._ending(finding)

    def metrics(self) -> dict[str, float]:
        """Return the norm of each tower's LoRA update as metrics."""
        return {f"adapter_norm_{tower}": update_norm(self.adapter, tower) for tower in TOWERS}

    def note(self, finding: Finding) -> None:
        """Keep a degraded finding, one per check."""
        if finding.check not in {one.check for one in self.degraded}:
            self.degraded.append(finding)

    def save(self, directory: Path) -> None:
        """Write the state into a checkpoint directory."""
        values = {
            "history": [asdict(one) for one in self.history],
            "degraded": [asdict(one) for one in self.degraded],
            "last_eval": asdict(self.last_eval),
            "rate_sum": self.rate_sum,
            "modules_owed": self._must_check_modules,
        }
        write_json(directory / MONITOR_FILE, values)

    def load(self, directory: Path) -> None:
        """Restore the state from a checkpoint directory; load the adapter from there first."""
        self._at_last_eval = _weights(self.adapter)
        if not (directory / MONITOR_FILE).is_file():
            return  # written by an older version, which saved no state
        values = read_json(directory / MONITOR_FILE)
        self.history = [StepFacts(**one) for one in values["history"]]
        self.degraded = [Finding(**one) for one in values["degraded"]]
        self.last_eval = EvalFacts(**values["last_eval"])
        self.rate_sum, self._must_check_modules = values["rate_sum"], values["modules_owed"]

    def _expected(self, step: int) -> dict[str, float]:
        spec = self.optimizer.spec
        factor = rate_factor(step - 1, spec.steps, spec.warmup_ratio, spec.min_rate_ratio, spec.schedule)
        return {tower: self.optimizer.peaks[tower] * factor for tower in self._parameters}

    def _ending(self, finding: Finding | None) -> Finding | None:
        if finding is not None and finding.level == "degraded":
            self.note(finding)
            return None
        return finding


def reached_towers(adapter: Adapter, has_images: bool) -> list[TowerName]:
    """Return the towers with LoRA that a batch passes through: without images the vision tower does not run."""
    return [tower for tower in TOWERS if adapter.parameters(tower) and (tower == "language" or has_images)]


def gradient_norm(parameters: Sequence[torch.nn.Parameter]) -> float:
    """Return the total norm of the gradients; a missing gradient counts as 0."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0


def dead_modules(adapter: Adapter, towers: list[TowerName], factor: str) -> list[str]:
    """Return the names of `factor` parameters (lora_A or lora_B) whose gradient is missing, not finite, or zero."""
    named = [(name, p.grad) for tower in towers for name, p in adapter.parameters(tower) if f".{factor}." in name]
    return [name for name, gradient in named if gradient is None or not _is_alive(gradient)]


def update_norm(adapter: Adapter, tower: TowerName) -> float:
    """Return the Frobenius norm of scale x B A over all modules of a tower (the root of the sum of squares)."""
    squares = 0.0
    with torch.no_grad():
        for a, b in ((a.float(), b.float()) for a, b in adapter.factors(tower).values()):
            # |BA|^2 = trace(A' B' B A) = sum of (B'B) * (AA'): two rank x rank products, never the full matrix
            squares += float(((b.T @ b) * (a @ a.T)).sum()) * adapter.scaling**2
    return max(squares, 0.0) ** 0.5


def _is_alive(gradient: torch.Tensor) -> bool:
    norm = torch.linalg.vector_norm(gradient)
    return bool(torch.isfinite(norm) and norm > 0)


def _weights(adapter: Adapter) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in adapter.trained()}


def _distance(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor] | None) -> float:
    differences = (value - right[name] if right else value for name, value in left.items())
    return sum(float(one.square().sum()) for one in differences) ** 0.5
