"""Preflight: the checks before a launch. Each finding is a refusal or a warning.

All checks are pure functions of the forecasts, the guards and the scanned data. For example, they refuse a run that
sees 8.9 % of its data, and one whose learning rate falls from 5e-5 to 5e-10; docs/corpus.md lists such failures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sweeps.planning.data_checks import check_data
from sweeps.planning.data_quality import (
    FileQuality,
    quality_of,
)
from sweeps.planning.finding import PreflightFinding
from sweeps.planning.forecast import Forecast
from sweeps.planning.trial_checks import check_trial
from sweeps.study import PREFLIGHT_LIMITS, PreflightLimits
from trainables.data.scan import Scan
from trainables.decision import Guard
from trainables.errors import UserError


@dataclass(frozen=True)
class Preflight:
    """The statistics of a launch's data, and the findings of the checks."""

    data: dict[str, FileQuality]
    findings: tuple[PreflightFinding, ...]

    @property
    def refusals(self) -> tuple[PreflightFinding, ...]:
        """Return the findings that refuse the launch unless they are overridden."""
        return tuple(one for one in self.findings if one.level == "refuse")

    def as_json(self) -> dict[str, Any]:
        """Return the statistics and the findings as plain values."""
        return asdict(self)


def preflight(
    forecasts: Sequence[Forecast], guards: Sequence[Guard], scan: Scan, limits: PreflightLimits = PREFLIGHT_LIMITS
) -> Preflight:
    """Check a launch against the limits; refusals come first, and equal findings of several trials are merged."""
    merged: dict[PreflightFinding, list[str]] = {}
    known: dict[tuple[object, ...], list[PreflightFinding]] = {}  # a launch of many seeds has few kinds of trial
    for forecast in forecasts:
        if forecast.spec.placement.is_baseline:
            continue
        kind = _read_by_checks(forecast)
        if kind not in known:
            known[kind] = list(check_trial(forecast, guards, scan, limits))
        for finding in known[kind]:
            merged.setdefault(finding, []).append(forecast.spec.name)
    found = [replace(one, trials=tuple(names)) for one, names in merged.items()]
    found += check_data(scan, limits)
    return Preflight(quality_of(scan), tuple(sorted(found, key=lambda one: one.level)))


def _read_by_checks(forecast: Forecast) -> tuple[object, ...]:
    """Return what decides the findings about a trial: all of it but its names and its seed."""
    spec = forecast.spec.model_copy(update={"name": "", "arm": "", "seed": 0})
    return (spec, forecast.coverage_epochs, forecast.evals, forecast.parent_base)


def admit(found: Preflight, force: bool) -> tuple[PreflightFinding, ...]:
    """Return the refusals that `force` overrides; empty when there is no refusal.

    Raises:
        UserError: there are refusals and `force` is false; lists every refusal with its hint.
    """
    if found.refusals and not force:
        reasons = "\n".join(f"  {one.check}: {one.message}\n    {one.hint}" for one in found.refusals)
        plural = "s" * (len(found.refusals) != 1)
        raise UserError(
            f"{len(found.refusals)} preflight check{plural} failed; nothing was run:\n{reasons}",
            "follow these hints, or run anyway with --force, which the records will show",
        )
    return found.refusals
