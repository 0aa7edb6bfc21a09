"""Converts the modules that a tool adapts to a placement, the same linears in layers of a tower, or refuses them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweeps.importers.llamafactory_modules import NAME_PARTS, NameParts, adapted_modules, containers
from sweeps.importers.parsing import ParsedConfig
from sweeps.importers.values import AllLinear, Expression, Targets
from trainables.model.families import FAMILIES, TOWERS, Blocks, TowerName
from trainables.model.module_kinds import own_name, part_hint, part_names, part_text
from trainables.model.placement import resolve
from trainables.spec import Placement

Towers = Mapping[TowerName, Blocks]


@dataclass(frozen=True)
class Placed:
    """A placement; `target_modules` are the names of adapted linears, empty for all; `note` is shown to the user.

    `differs` says how the adapted linears are not those of the tool; empty if they are.
    """

    placement: Placement
    target_modules: tuple[str, ...]
    note: str
    differs: str = ""


def placed(parsed: ParsedConfig, towers: Towers, config: Mapping[str, Any]) -> Placed:
    """Return the placement with exactly the modules that the file names.

    Raises:
        UserError: no module matches, or the layers of a tower do not have the same linears.
    """
    field, targets = _requested_targets(parsed)
    names: dict[TowerName, list[list[str]]] = {tower: [[linear.name for linear in block] for block in blocks]
                                              for tower, blocks in towers.items()}  # fmt: skip
    base = _modules_of(towers, config)
    matched, note = _matched(parsed, field, targets, base)
    matched, fused = _with_fused(parsed, field, matched, base)
    beyond = [name for name in base.never_adapted if name in matched]
    if beyond:
        more = f" and {len(beyond) - 1} more, which are" if len(beyond) > 1 else ", which is"
        raise parsed.error(
            field, f"must name layers of the towers only, but it also names {beyond[0]}{more} never adapted "
            "here", "name whole modules, or write an expression: `--export-as` prints one for a placement",
        )  # fmt: skip
    matched = _in_layers(parsed, matched, names)
    if not matched:
        raise parsed.error(field, "must name layers of this base, but it matches none",
                           f"the first is {base.inside[0]}")  # fmt: skip
    found = _as_placement(parsed, field, matched, towers, f"{parsed.origin(field)}: {'; '.join([note, *fused])}")
    return replace(found, differs=f"{'; '.join(fused)}, which the tool leaves out by these names" if fused else "")


@dataclass(frozen=True)
class _Modules:
    """Names of a base's modules: the linears of its towers, linears outside them, and embeddings."""

    towers: Towers
    inside: tuple[str, ...]
    outside: tuple[str, ...]
    embeddings: tuple[str, ...]
    model_type: str

    @property
    def never_adapted(self) -> tuple[str, ...]:
        return (*self.outside, *self.embeddings)

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.inside, *self.never_adapted)

    @property
    def with_parts(self) -> tuple[str, ...]:
        """All names, and those that the parts of the decoder's fused linears would have."""
        return (*self.all, *(part for name in _names(self.towers["language"]) for part in _parts(name)))


def _modules_of(towers: Towers, config: Mapping[str, Any]) -> _Modules:
    family = FAMILIES[str(config["model_type"])]
    return _Modules(
        towers, tuple(name for tower in TOWERS for name in _names(towers[tower])),
        (*family.outside(config), "lm_head"), (f"{family.decoder}.embed_tokens",), str(config["model_type"]),
    )  # fmt: skip


def _parts(name: str) -> tuple[str, ...]:
    path, _, own = name.rpartition(".")
    return tuple(f"{path}.{part}" for part in part_names(own))


def _with_fused(parsed: ParsedConfig, field: str, matched: set[str], base: _Modules) -> tuple[set[str], list[str]]:
    """Put fused linears in the place of all their parts; return the modules, and which parts are which linear."""
    replaced: dict[str, tuple[str, ...]] = {}
    for name in _names(base.towers["language"]):
        own, parts = own_name(name), [part for part in _parts(name) if part in matched]
        if not parts:
            continue
        if name not in matched and len(parts) < len(_parts(name)):
            raise parsed.error(
                field, f"must name whole linears, but in {name.rpartition('.')[0]} "
                f"{part_text([*map(own_name, parts)], own)}", part_hint(own),
            )  # fmt: skip
        if name not in matched:
            replaced[own] = part_names(own)
        matched = (matched - {*parts}) | {name}
    return matched, [f"{', '.join(parts)} are {own} here" for own, parts in replaced.items()]


def _requested_targets(parsed: ParsedConfig) -> tuple[str, Targets]:
    if "expression" in parsed.fields:
        return "expression", parsed.fields["expression"]
    if parsed.fields.get("all_linear"):  # axolotl adapts the named modules too
        named = parsed.fields.get("targets")
        return "all_linear", AllLinear(named if isinstance(named, tuple) else ())
    if "targets" in parsed.fields:
        return "targets", parsed.fields["targets"]
    if parsed.value("all_linear"):
        return "all_linear", AllLinear()
    raise parsed.error("targets", "must name the modules to adapt", "name them, or choose all linear layers")


def _matched(parsed: ParsedConfig, field: str, targets: Targets, base: _Modules) -> tuple[set[str], str]:
    parts = NAME_PARTS.get(base.model_type) if parsed.tool.name == "llamafactory" else None
    if isinstance(targets, Expression):
        return _matched_by(parsed, field, targets, base.with_parts)
    if parts:
        return _matched_by_parts(parsed, field, targets, base, parts)
    if isinstance(targets, tuple):
        return _matched_by_names(targets, base)
    has_vision = base.towers["vision"] or len(base.outside) > 1  # a tower that is never trained counts too
    frozen = _frozen(parsed) if has_vision else ()  # tools freeze towers of bases with pictures only
    # if no tower is frozen explicitly, the tool adapts every linear but the head, the aligner included
    also = {*base.outside} - {"lm_head"} if frozen is None else set()
    trained = {name for tower in TOWERS if tower not in (frozen or ()) for name in _names(base.towers[tower])}
    besides, note = _matched_by_names(targets.besides, base) if targets.besides else (set(), "")
    return trained | also | besides, "all linear layers of the towers that are not frozen" + f"; {note}" * bool(note)


def _matched_by_names(targets: tuple[str, ...], base: _Modules) -> tuple[set[str], str]:
    by_target = {
        target: {name for name in base.with_parts if name == target or name.endswith(f".{target}")}
        for target in targets
    }
    without = [target for target, names in by_target.items() if not names]
    note = f"; the base has no {', '.join(without)}" if without else ""
    return set().union(*by_target.values()), f"by name, in every layer that has it{note}"


def _matched_by_parts(
    parsed: ParsedConfig, field: str, targets: AllLinear | tuple[str, ...], base: _Modules, parts: NameParts
) -> tuple[set[str], str]:
    wanted = targets if isinstance(targets, tuple) else None
    for target, container in containers(base.inside, wanted or ()).items():
        raise parsed.error(field, f"must name linear layers, but `{target}` is also a part of the name of {container}, "
                           "on which LLaMA-Factory fails", "name the linear layers: q_proj, qkv")  # fmt: skip
    linears = (*base.inside, *base.outside)
    return (
        adapted_modules(parts, linears if wanted is None else base.all, wanted, _frozen(parsed) or ()),
        "all linear layers but those of frozen towers" if wanted is None else "by parts of names, as LLaMA-Factory "
        "matches on bases with pictures",
    )  # fmt: skip


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
    placement = _layers_of(matched, towers)
    own = [own_name(name) for tower in TOWERS if placement.count(tower) for name in _names(towers[tower])]
    wanted = tuple(dict.fromkeys(name for name in own if name in {own_name(one) for one in matched}))
    target_modules = () if set(wanted) == set(own) else wanted
    expected = set(resolve(placement, towers, target_modules).module_names)
    if expected != matched:
        raise parsed.error(
            "layers" if "layers" in parsed.fields else field,
            f"must name the same linears in every layer of a tower that it names, but it names {len(matched)} modules "
            f"and not {sorted(expected - matched)[0]}",
            f"the nearest placement is {placement}; a layer that is not to be adapted must not be named at all",
        )
    return Placed(placement, target_modules, note)


def _layers_of(matched: set[str], towers: Towers) -> Placement:
    """Return the placement of all layers with a matched linear; those that are the last of a tower are not listed."""
    found: dict[str, int | tuple[int, ...]] = {}
    for tower in TOWERS:
        blocks = towers[tower]
        touched = tuple(index for index, block in enumerate(blocks) if matched & {one.name for one in block})
        are_last = touched == tuple(range(len(blocks) - len(touched), len(blocks)))
        found |= {tower: len(touched), f"{tower}_indices": () if are_last else touched}
    return Placement.model_validate(found)


def _names(blocks: Blocks) -> list[str]:
    return [linear.name for block in blocks for linear in block]
