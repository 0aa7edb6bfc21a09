"""The state of an adapter and its optimizer, to be restored after the self-test."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainables.model.lora import Adapter
from trainables.model.optimizer import Optimizer


@dataclass(frozen=True)
class Snapshot:
    """A copy of weights, `requires_grad` flags, optimizer moments and rates; `put_back` restores them exactly."""

    weights: dict[str, torch.Tensor]
    trainable: dict[str, bool]
    moments: dict[str, dict[str, torch.Tensor]]
    rates: list[float]

    @classmethod
    def of(cls, adapter: Adapter, optimizer: Optimizer) -> Snapshot:
        """Copy everything that training changes."""
        moments = {
            name: {key: value.clone() for key, value in optimizer.adamw.state[p].items()}
            for name, p in optimizer.named
            if p in optimizer.adamw.state
        }
        weights = {name: p.detach().clone() for name, p in adapter.trained()}
        trainable = {name: p.requires_grad for name, p in adapter.peft_model.named_parameters()}
        return cls(weights, trainable, moments, [group["lr"] for group in optimizer.adamw.param_groups])

    def is_fresh(self) -> bool:
        """True when every lora_B is 0, so that the adapter has no effect yet."""
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
        """Restore the `requires_grad` flag of every parameter."""
        # after PEFT's `disable_adapter` all adapter parameters are trainable, which would hide a wrong trainable set
        for name, p in adapter.peft_model.named_parameters():
            p.requires_grad_(self.trainable[name])

    def equals(self, adapter: Adapter, optimizer: Optimizer) -> bool:
        """True when adapter and optimizer have the state of the snapshot."""
        now = Snapshot.of(adapter, optimizer)
        same = all(torch.equal(now.weights[name], value) for name, value in self.weights.items())
        flags = now.trainable == self.trainable and now.rates == self.rates
        return same and flags and now.moments.keys() == self.moments.keys()
