"""Reads `--space "rank=4,8;language=2,4"`: axes of ranks, rates, quantizations, seeds and placements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from sweeps.planning.space import Axes
from sweeps.study import Arm
from trainables.errors import UserError, items, nearest, quoted
from trainables.spec import Placement

READERS: dict[str, Callable[[str], Any]] = {
    "language": int,
    "vision": int,
    "rank": int,
    "learning_rate": float,
    "quantization": str,
    "seeds": int,
}

EXAMPLE = '"rank=4,8;language=2,4"'

Values = dict[str, tuple[Any, ...]]


def space_in(text: str) -> Values:
    """Return the values of each axis that `text` names.

    Raises:
        UserError: an axis is unknown, given twice, or has an invalid value.
    """
    found: Values = {}
    for part in items(text, "--space", EXAMPLE, ";"):
        name, equals, values = (word.strip() for word in part.partition("="))
        if name not in READERS:
            raise UserError(f"--space must vary a setting, but got `{name}`", nearest(name, READERS))
        if name in found or not equals:
            raise UserError(f"--space must give `{name}` once, as `{name}=1,2`, but got `{part.strip()}`")
        found[name] = _values(name, values)
    if len(found.get("seeds", ())) > 1:
        raise UserError("--space: `seeds` must be one number, the count of seeds, but got several", "write seeds=3")
    return found


def around(found: Values, placement: Placement) -> tuple[Axes, tuple[Arm, ...]]:
    """Return axes and arms for a trial of `placement`; settings that are not varied keep the trial's value."""
    places = product(found.get("language", (placement.language,)), found.get("vision", (placement.vision,)))
    axes = Axes(
        ranks=found.get("rank", ()),
        learning_rates=found.get("learning_rate", ()),
        quantizations=found.get("quantization", ()),
        seeds=found.get("seeds", (1,))[0],
    )
    listed = placement.model_dump(exclude={"language", "vision", *(f"{tower}_indices" for tower in found)})
    return axes, tuple(_arm(Placement(language=language, vision=vision), listed) for language, vision in places)


def _arm(counts: Placement, listed: Mapping[str, Any]) -> Arm:
    """Return the arm of these counts; what the trial lists stays in the towers that are not varied."""
    if counts.is_baseline or not listed:
        return Arm(str(counts), counts.language, counts.vision)
    placement = Placement.model_validate({**counts.model_dump(), **listed})
    settings = {"placement": placement.model_dump()}
    return Arm(str(placement), placement.language, placement.vision, settings=settings)


def _values(name: str, text: str) -> tuple[Any, ...]:
    try:
        values = tuple(READERS[name](word) for word in items(text, f"--space {name}=", "1,2"))
    except ValueError:
        values = ()
    if not values or (name in {"language", "vision", "seeds"} and min(values) < (name == "seeds")):
        raise UserError(f"--space: `{name}` must be values separated by commas, but got {quoted(text)}")
    return values
