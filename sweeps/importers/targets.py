"""Converts the modules that a tool adapts to a placement, the last layers of each tower, or refuses them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.importers.rules import ParsedConfig
from sweeps.importers.values import AllLinear, Expression, Targets
from trainables.model.families import FAMILIES, TOWERS, Blocks, TowerName
from trainables.model.placement import resolve
from trainables.spec import Placement

Towers = Mapping[TowerName, Blocks]


@dataclass(frozen=True)
class Placed:
    """A placement; `target_modules` are the names of adapted linears, empty for all; `note` is shown to the user."""

    placement: Placement
    target_modules: tuple[str, ...]
    note: str


def placed(parsed: ParsedConfig, towers: Towers, config: Mapping[str, Any]) -> Placed:
    """Return the placement with exactly the modules that the file names.

    Raises:
        UserError: no module matches, or they are not the last layers of the towers.
    """
    field, targets = _requested_targets(parsed)
    names: dict[TowerName, list[list[str]]] = {tower: [[linear.name for linear in block] for block in blocks]
                                              for tower, blocks in towers.items()}  # fmt: skip
    inside = [name for blocks in names.values() for block in blocks for name in block]
    outside = [*FAMILIES[str(config["model_type"])].outside(config), "lm_head"]
    matched, note = _matched(parsed, field, targets, towers, inside, outside)
    beyond = [name for name in outside if name in matched]
    if beyond:
        raise parsed.error(
            field, f"must name layers of the towers only, but it also names {beyond[0]}, which is never adapted here",
            "name whole modules, or write an expression: `--export-as` prints one for a placement",
        )  # fmt: skip
    matched = _in_layers(parsed, matched, names)
    if not matched:
        raise parsed.error(field, "must name layers of this base, but it matches none", f"the first is {inside[0]}")
    return _as_placement(parsed, field, matched, towers, f"{parsed.origin(field)}: {note}")


def _requested_targets(parsed: ParsedConfig) -> tuple[str, Targets]:
    if "expression" in parsed.fields:
        return "expression", parsed.fields["expression"]
    if parsed.fields.get("all_linear"):
        return "all_linear", AllLinear()
    if "targets" in parsed.fields:
        return "targets", parsed.fields["targets"]
    if parsed.value("all_linear"):
        return "all_linear", AllLinear()
    raise parsed.error("targets", "must name the modules to adapt", "name them, or choose all linear layers")


def _matched(
    parsed: ParsedConfig, field: str, targets: Targets, towers: Towers, inside: list[str], outside: list[str]
) -> tuple[set[str], str]:
    frozen = _frozen(parsed)
    if isinstance(targets, AllLinear):
        # if no tower is frozen explicitly, the tool adapts every linear but the head, the aligner included
        excluded = {"lm_head"} if frozen is None else set(outside)
        trained = [name for tower in TOWERS if tower not in (frozen or ()) for name in _names(towers[tower])]
        return {*trained, *(set(outside) - excluded)}, "all linear layers of the towers that are not frozen"
    if isinstance(targets, tuple):
        ends = tuple(f".{name}" for name in targets)
        found = {name for name in (*inside, *outside) if name in targets or name.endswith(ends)}
        if parsed.tool.name == "llamafactory":
            found -= {name for tower in frozen or () for name in _names(towers[tower])} | set(outside)
        return found, "by name, in every layer that has it"
    return _matched_by(parsed, field, targets, [*inside, *outside])


def _frozen(parsed: ParsedConfig) -> tuple[TowerName, ...] | None:
    frozen = {"language": parsed.value("freeze_language"), "vision": parsed.value("freeze_vision")}
    return None if None in frozen.values() else tuple(tower for tower in TOWERS if frozen[tower])


def _matched_by(parsed: ParsedConfig, field: str, targets: Expression, names: Sequence[str]) -> tuple[set[str], str]:
    for text, note in (
        (targets.text, "by expression"),
        (
            rf"(?:.*\.)?(?:{targets.text})",
            "by expression, matched against the end of a name: PEFT, which matches whole names, would find nothing",
        ),
    ):
        try:
            found = {name for name in names if re.fullmatch(text, name)}
        except re.error as error:
            raise parsed.error(field, f"must be a regular expression, but {error}") from None
        if found:
            return found, note
    return set(), ""


def _in_layers(parsed: ParsedConfig, matched: set[str], names: Mapping[TowerName, list[list[str]]]) -> set[str]:
    layers = parsed.value("layers")
    if not layers:
        return matched
    blocks = [name for tower in names.values() for index in layers if index < len(tower) for name in tower[index]]
    return matched & set(blocks)


def _as_placement(parsed: ParsedConfig, field: str, matched: set[str], towers: Towers, note: str) -> Placed:
    counts: dict[TowerName, int] = {}
    for tower in TOWERS:
        touched = [index for index, block in enumerate(towers[tower]) if matched & {one.name for one in block}]
        counts[tower] = len(towers[tower]) - touched[0] if touched else 0
    own = [_linear_name(name) for tower in TOWERS if counts[tower] for name in _names(towers[tower])]
    wanted = tuple(dict.fromkeys(name for name in own if name in {_linear_name(one) for one in matched}))
    target_modules = () if set(wanted) == set(own) else wanted
    placement = Placement(language=counts["language"], vision=counts["vision"])
    expected = set(resolve(placement, towers, target_modules).module_names)
    if expected != matched:
        raise parsed.error(
            "layers" if "layers" in parsed.fields else field,
            f"must name the same linears in the last layers of a tower, but it names {len(matched)} modules and not "
            f"{sorted(expected - matched)[0]}",
            f"the nearest placement is {placement}: --space language={counts['language']} runs it",
        )
    return Placed(placement, target_modules, note)


def _names(blocks: Blocks) -> list[str]:
    return [linear.name for block in blocks for linear in block]


def _linear_name(name: str) -> str:
    return name.rsplit(".", 1)[-1]
