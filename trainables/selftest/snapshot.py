"""The state of an adapter and its optimizer, to be restored after the self-test."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainables.model.lora import Adapter
from trainables.model.optimizer import Optimizer


@dataclass(frozen=True)
class Snapshot:
    """Weights, flags, moments and rates at one moment; `put_back` restores them bit for bit."""

    weights: dict[str, torch.Tensor]
    trainable: dict[str, bool]
    moments: dict[str, dict[str, torch.Tensor]]
    rates: list[float]

    @classmethod
    def of(cls, adapter: Adapter, optimizer: Optimizer) -> Snapshot:
        """Take a copy of everything that training changes."""
        moments = {
            name: {key: value.clone() for key, value in optimizer.adamw.state[p].items()}
            for name, p in optimizer.named
            if p in optimizer.adamw.state
        }
        weights = {name: p.detach().clone() for name, p in adapter.trained()}
        trainable = {name: p.requires_grad for name, p in adapter.peft_model.named_parameters()}
        return cls(weights, trainable, moments, [group["lr"] for group in optimizer.adamw.param_groups])

    def is_fresh(self) -> bool:
        """True when every lora_B is 0: such an adapter does not act yet."""
        return not any(bool(value.any()) for name, value in self.weights.items() if "lora_B" in name)

    def put_back(self, adapter: Adapter, optimizer: Optimizer) -> None:
        """Restore weights, flags, moments and rates, and clear the gradients."""
        with torch.no_grad():
            for name, p in adapter.trained():
                p.copy_(self.weights[name])
                p.grad = None
        self.put_back_flags(adapter)
        optimizer.adamw.state.clear()
        for name, p in optimizer.named:
            if name in self.moments:
                optimizer.adamw.state[p] = {key: value.clone() for key, value in self.moments[name].items()}
        for group, rate in zip(optimizer.adamw.param_groups, self.rates, strict=True):
            group["lr"] = rate

    def put_back_flags(self, adapter: Adapter) -> None:
        """Restore which parameters train."""
        # PEFT's `disable_adapter` leaves every adapter trainable, which would heal the very fault that is looked for
        for name, p in adapter.peft_model.named_parameters():
            p.requires_grad_(self.trainable[name])

    def equals(self, adapter: Adapter, optimizer: Optimizer) -> bool:
        """True when adapter and optimizer are again what they were."""
        now = Snapshot.of(adapter, optimizer)
        same = all(torch.equal(now.weights[name], value) for name, value in self.weights.items())
        flags = now.trainable == self.trainable and now.rates == self.rates
        return same and flags and now.moments.keys() == self.moments.keys()
