"""The gradient of each linear before training, as a value that crosses between processes and is kept in a file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from trainables.model.families import TOWERS, Blocks, TowerName
from trainables.model.module_kinds import is_of_kind, own_name
from trainables.placement import ModuleKind
from trainables.spec import ComputeDtype, Frozen, Quantization, TrialSpec

GRADIENT_ROWS = 32


class GradientSource(Frozen):
    """What decides the gradients: digests of base and training rows, and how the base and the rows are read."""

    base: str
    train: str
    quantization: Quantization
    compute_dtype: ComputeDtype
    max_tokens: int
    template_date: date | None

    @classmethod
    def of(cls, spec: TrialSpec) -> GradientSource:
        """Return what decides the gradients of a trial; its rank, rates and seed do not."""
        return cls(
            base=spec.base.sha256, train=spec.train.sha256, quantization=spec.quantization,
            compute_dtype=spec.compute_dtype, max_tokens=spec.max_tokens, template_date=spec.template_date,
        )  # fmt: skip


class GradientNorms(Frozen):
    """The norm of the gradient of lora_B, in nats per supervised token, by the full name of the linear.

    It is that of the mean loss of the first `rows` training rows, with lora_B = 0 in all layers of all towers.
    """

    source: GradientSource
    rows: int
    supervised_tokens: int
    loss: float
    norms: Mapping[str, float]

    def by_layer(self, towers: Mapping[TowerName, Blocks], kind: ModuleKind) -> dict[TowerName, tuple[float, ...]]:
        """Return the norm of each layer of each tower, over its linears of a kind."""
        return {
            tower: tuple(
                sum(self.norms[one.name] ** 2 for one in block if is_of_kind(own_name(one.name), kind)) ** 0.5
                for block in towers[tower]
            )
            for tower in TOWERS
        }


class GradientJob(Frozen):
    """Measure the gradients of a trial's base on its rows, and write `GradientNorms` to `result`."""

    spec: TrialSpec
    result: Path
