"""Makes arms start from a saved adapter: they continue it, or add modules to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainables.checkpoints.adapter import SavedAdapter, adapter_source, read_adapter
from trainables.checkpoints.base_fit import check_fits_base
from trainables.checkpoints.compatibility import contains
from trainables.errors import UserError
from trainables.model.families import family_of
from trainables.model.placement import ResolvedPlacement, resolve
from trainables.spec import RESTART, TrialSpec, parse_spec


def continuing(specs: Sequence[TrialSpec], init_from: Path | None, restart_from: Path | None) -> list[TrialSpec]:
    """Return the trials with the adapter in `init_from` as their start; baselines have no adapter.

    An arm with the same modules as the adapter continues it; an arm with more modules extends it. With `restart_from`
    every arm gets a second trial that starts from that adapter (`C2-restart`), for comparison.

    Raises:
        UserError: a directory holds no adapter, or arms do not contain its modules.
    """
    arms = [spec for spec in specs if not spec.placement.is_baseline]
    baselines = [spec for spec in specs if spec.placement.is_baseline]
    if init_from and restart_from and adapter_source(init_from).sha256 == adapter_source(restart_from).sha256:
        raise UserError(
            f"--restart-from must be another adapter than --init-from, but both {restart_from} and {init_from} hold it",
            "pass an earlier adapter to --restart-from",
        )
    first = _from(arms, init_from, "--init-from") if init_from else arms
    again = _from(arms, restart_from, "--restart-from") if restart_from else []
    return [*baselines, *first, *map(_restarted, again)]


def _restarted(spec: TrialSpec) -> TrialSpec:
    return spec.model_copy(update={"name": f"{spec.name}{RESTART}", "arm": f"{spec.arm}{RESTART}"})


def _from(arms: Sequence[TrialSpec], directory: Path, option: str) -> list[TrialSpec]:
    saved, source = read_adapter(directory), adapter_source(directory)
    for base in dict.fromkeys(spec.base.path for spec in arms):
        check_fits_base(saved, base)
    refused = [spec.name for spec in arms if not _contains_modules_of(saved, spec)]
    if refused:
        fitting = dict.fromkeys(spec.arm for spec in arms if spec.name not in refused)
        raise UserError(
            f"{option}: an arm must contain all {len(saved.modules)} modules of {directory}, but {', '.join(refused)} "
            f"{'does' if len(refused) == 1 else 'do'} not",
            f"--only {','.join(fitting)}" if fitting else "no arm contains them; choose an adapter with fewer modules",
        )
    return [
        parse_spec(
            {
                **spec.model_dump(),
                "init_from": source,
                "continuation": "same" if _has_modules_of(saved, spec) else "extended",
            },
            where=f"arm {spec.name}",
        )
        for spec in arms
    ]


def _contains_modules_of(saved: SavedAdapter, spec: TrialSpec) -> bool:
    return contains(saved.modules, _resolved_placement(spec))


def _has_modules_of(saved: SavedAdapter, spec: TrialSpec) -> bool:
    return set(saved.modules) == set(_resolved_placement(spec).module_names)


def _resolved_placement(spec: TrialSpec) -> ResolvedPlacement:
    family, config = family_of(spec.base.path)
    return resolve(spec.placement, family.towers(config), spec.target_modules)
