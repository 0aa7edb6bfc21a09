"""Plans a launch: its trials, their forecasts, and the findings of preflight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sweeps.planning.active_guards import ActiveGuards, active_guards
from sweeps.planning.base_checks import check_base
from sweeps.planning.device_memory import Devices, devices_here
from sweeps.planning.eval_cost import SuiteTokens
from sweeps.planning.forecast import Forecast, forecast
from sweeps.planning.guard_errors import GuardErrors, blind_guards, guard_errors
from sweeps.planning.kept_forecast import KeptForecast, kept_forecasts
from sweeps.planning.kept_scans import scan_once
from sweeps.planning.memory_findings import memory_findings
from sweeps.planning.mixes import replayed
from sweeps.planning.pick_rows import pick_findings, pick_rows
from sweeps.planning.pilots import PilotArm, pilots_of
from sweeps.planning.preflight import Preflight, preflight
from sweeps.planning.probe_requests import check_probes, suite_tokens
from sweeps.planning.resources import TrialResources, resources
from sweeps.planning.silent_guards import silent_guards
from sweeps.planning.sources import Sources
from sweeps.planning.trial_checks import check_packable
from sweeps.study import Study, as_begun
from trainables.gradient_norms import GradientNorms
from trainables.model.families import family_of
from trainables.model.residency import DEFAULT_CHOICE, ResidencyChoice, check_residency
from trainables.spec import TrialSpec


@dataclass(frozen=True)
class Plan:
    """The trials of a launch, their data, and the preflight findings; `active.study` has the guards that apply.

    `guard_errors` are their simulated errors, `pick_rows` the rows of every eval by metric of the constraint, `kept`
    what keeping activations of frozen layers takes and saves, `resources` what each trial takes on `devices`,
    `gradients` what layers were chosen by, `suites` the tokens of an eval for tasks of a suite. `pilots` are the arms
    whose rate pilots choose, which take `pilot_resources`; their trials are at the middle rate. `unmixed` are the
    trials without replay, by whose steps the experiment is known; empty without mixes. `reported` names the metrics of
    records.
    """

    sources: Sources
    forecasts: list[Forecast]
    preflight: Preflight
    active: ActiveGuards
    guard_errors: tuple[GuardErrors, ...] = ()
    pick_rows: Mapping[str, int] = field(default_factory=dict)
    kept: tuple[KeptForecast, ...] = ()
    gradients: tuple[GradientNorms, ...] = ()
    pilots: tuple[PilotArm, ...] = ()
    unmixed: tuple[TrialSpec, ...] = ()
    resources: tuple[TrialResources, ...] = ()
    suites: SuiteTokens = field(default_factory=dict)
    devices: Devices | None = None
    resident: ResidencyChoice = DEFAULT_CHOICE
    pilot_resources: tuple[TrialResources, ...] = ()
    reported: frozenset[str] = frozenset()

    @property
    def specs(self) -> list[TrialSpec]:
        """Return the trials, baselines first."""
        return [one.spec for one in self.forecasts]


def plan_specs(
    study: Study, specs: list[TrialSpec], sources: Sources, resident: ResidencyChoice = DEFAULT_CHOICE,
    devices: Devices | None = None,
) -> Plan:  # fmt: skip
    """Check trials that all read `sources`, on a base that engines hold as `resident` says; writes nothing.

    `devices` are those that train; None for those of this machine.

    Raises:
        UserError: anything that would make a trial fail later.
    """
    check_base(specs)
    check_residency(resident, (spec.quantization for spec in specs))
    study = as_begun(study, specs[0].format)
    reported = sources.reported | check_probes(specs)
    forecasts, active = forecast(specs, sources.train_rows), active_guards(study, reported, sources.sees)
    scanned = scan_once(sources, replayed(specs))
    family, config = family_of(specs[0].base.path)
    check_packable(specs, scanned, family.packs_rows)
    found = preflight(forecasts, active.study.guards, scanned, active.study.limits)
    evals = max(one.evals for one in forecasts)
    errors = guard_errors(active.study.guards, active.study.reading, sources.ood_rows, evals, specs[0].format)
    constraint = active.study.constraint
    rows = pick_rows(constraint, sources.ood_rows, specs[0].format)
    silent = silent_guards(active.study.guards, active.study.reading, errors)
    weak = (*silent, *blind_guards(errors), *pick_findings(constraint, rows))
    devices = devices or devices_here()
    suites = suite_tokens(specs)
    taken = resources(forecasts, found.data, sources.ood_rows, sources.sees, devices.largest, resident, suites)
    found = replace(found, findings=(*memory_findings(forecasts, taken, devices), *found.findings, *weak))
    shares = family.shared_forward is not None
    kept = kept_forecasts(forecasts, family.towers(config), config, found.data["train"]) if shares else ()
    return Plan(sources, forecasts, found, active, errors, rows, kept, resources=taken, suites=suites, devices=devices,
                resident=resident, reported=reported)  # fmt: skip


def forecast_of(planned: Plan, specs: Sequence[TrialSpec]) -> tuple[TrialResources, ...]:
    """Return what further trials take on the data and devices of a plan: pilots, or those that a search asks for."""
    data, sources = planned.preflight.data, planned.sources
    largest = planned.devices.largest if planned.devices else None
    found = forecast(list(specs), sources.train_rows)
    return resources(found, data, sources.ood_rows, sources.sees, largest, planned.resident, planned.suites)


def with_pilots(planned: Plan, arms: Sequence[PilotArm]) -> Plan:
    """Return a plan with pilots of these arms, and what they take."""
    return replace(planned, pilots=tuple(arms), pilot_resources=forecast_of(planned, pilots_of(arms)))
