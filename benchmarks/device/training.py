"""Adapters on a base, and one step of a pass, without records, evals and guards: what `Cohort` does between evals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from trainables.data.encoding import Batch, Encoded, Encoder, collate
from trainables.model.lora import Adapter, place
from trainables.model.optimizer import Optimizer
from trainables.model.placement import resolve
from trainables.spec import Placement, Source, TrialSpec

if TYPE_CHECKING:
    from trainables.cohort.shared_forward import SharedForward
    from trainables.model.base import Base

UNREAD = Source(path=Path("unread"), sha256="0" * 64)  # no file of the spec is read here


@dataclass(frozen=True)
class Device:
    """The device that is measured; `is_small` chooses tiny shapes, with which the program itself is tested."""

    device: torch.device
    is_small: bool

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype that a base computes in."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def synchronize(self) -> None:
        """Wait until all queued work has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Member:
    """One adapter with its optimizer; the adapter is not on the base."""

    adapter: Adapter
    optimizer: Optimizer


def trial_spec(language: int, vision: int = 0, seed: int = 0, dropout: float = 0.1) -> TrialSpec:
    """Return the settings of a trial whose files are not read."""
    return TrialSpec(
        name=f"L{language}-V{vision}-{seed}", base=UNREAD, train=UNREAD, validation=UNREAD, ood=UNREAD,
        placement=Placement(language=language, vision=vision), seed=seed, dropout=dropout,
    )  # fmt: skip


def placed(base: Base, spec: TrialSpec) -> Member:
    """Place a new adapter on the base, and leave it there; its update is not zero."""
    adapter = place(base, spec, resolve(spec.placement, base.towers))
    generator = torch.Generator().manual_seed(spec.seed)
    with torch.no_grad():
        for name, parameter in adapter.trained():
            if "lora_B" in name:  # a new adapter's is zero, with which lora_A gets no gradient
                parameter.copy_(0.01 * torch.randn(parameter.shape, generator=generator))
    return Member(adapter, Optimizer(adapter, spec))


def opened(base: Base, specs: Sequence[TrialSpec]) -> list[Member]:
    """Return a new adapter for each spec, none of them on the base."""
    members = []
    for spec in specs:
        members.append(placed(base, spec))
        members[-1].adapter.remove()  # the next one is placed on a bare base
    return members


def random_batch(encoder: Encoder, device: torch.device, rows: int, row_tokens: int, seed: int = 0) -> Batch:
    """Return rows of random tokens without pictures, of which the last quarter is supervised."""
    generator = torch.Generator().manual_seed(seed)
    special, encoded = set(encoder.tokenizer.all_special_ids) | {encoder.image_token_id}, []
    ordinary = torch.tensor([one for one in range(len(encoder.tokenizer)) if one not in special])
    for _ in range(rows):
        tokens = ordinary[torch.randint(len(ordinary), (row_tokens,), generator=generator)].tolist()
        asked = row_tokens - row_tokens // 4
        encoded.append(Encoded(tokens, [-100] * asked + tokens[asked:], ()))
    return collate(encoded, encoder, device, pad_left=False)


def backward(shared: SharedForward, members: Sequence[Member], batch: Batch, step: int = 0) -> torch.Tensor:
    """Run all members on a batch, forward and backward; return the mean loss of each, still on the device."""
    for member in members:
        member.adapter.masks.step = step
    out = shared.logits(batch, range(len(members)))
    tokens = len(out.targets)
    means = torch.stack([cross_entropy(one, out.targets, reduction="sum") / tokens for one in out.values])
    means.sum().backward()
    return means.detach()


def train_step(shared: SharedForward, members: Sequence[Member], batch: Batch, step: int) -> None:
    """Train all members one step."""
    shared.base.model.train()
    backward(shared, members, batch, step)
    shared.base.model.eval()
    for member in members:
        member.optimizer.step(step)


def gradients(member: Member) -> torch.Tensor:
    """Return all gradients of a member as one vector, and forget them."""
    parts = [
        parameter.grad.flatten().float() for _, parameter in member.adapter.trained() if parameter.grad is not None
    ]
    member.optimizer.adamw.zero_grad(set_to_none=True)
    return torch.cat(parts)


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the length of the difference of two tensors over the length of the other."""
    difference = (one.double() - other.double()).norm() / other.double().norm()
    return float(difference)


def seconds_of(device: Device, run: Callable[[int], object], repeats: int, warm_up: int = 1) -> list[float]:
    """Return the seconds of `repeats` calls with a running number, after `warm_up` calls that are not timed."""
    from benchmarks.timing import now

    times = []
    for number in range(warm_up + repeats):
        began = now(device.device)
        run(number)
        times.append(now(device.device) - began)
    return times[warm_up:]
