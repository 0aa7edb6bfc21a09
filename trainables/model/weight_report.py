"""Compares the weights of a base with those of its model, as read from files or as transformers reports them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import UserError, named
from trainables.model.families import Family
from trainables.model.weight_files import REPAIR_HINT, listed

Shape = tuple[int, ...]
ONE_MODEL_HINT = f"config.json and weights must be of one model; {REPAIR_HINT}"


@dataclass(frozen=True)
class WeightReport:
    """How the weights of a base differ from those of its model, by their names in the model.

    `reshaped` gives for a name the shape in the file and the shape in the model. `errors` are messages of transformers.
    """

    missing: frozenset[str] = frozenset()
    unexpected: frozenset[str] = frozenset()
    reshaped: Mapping[str, tuple[Shape, Shape]] | None = None
    errors: tuple[str, ...] = ()


def check_report(base: Path, family: Family, report: WeightReport) -> None:
    """Check that a base holds every weight of its model in its shape, and no other but those that its family ignores.

    Raises:
        UserError: names the first weights that differ.
    """
    unexpected = sorted(name for name in report.unexpected if not family.ignores(name))
    reshaped = report.reshaped or {}
    wrong = []
    if report.missing:
        wrong.append(f"it has no {listed(sorted(report.missing))}")
    if reshaped:
        name = min(reshaped)
        stored, built = (list(shape) for shape in reshaped[name])
        more = f", and {len(reshaped) - 1:,} more" if len(reshaped) > 1 else ""
        wrong.append(f"`{named(name)}` is {stored} and not {built}{more}")
    if unexpected:
        wrong.append(f"the model has no place for {listed(unexpected)}")
    wrong += [error.strip().splitlines()[0] for error in report.errors if error.strip()]
    if wrong:
        raise UserError(
            f"a base must hold the weights that config.json describes and no others, but of {base}: {'; '.join(wrong)}",
            ONE_MODEL_HINT,
        )
