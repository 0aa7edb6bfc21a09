"""What a launch is forecast to take, as text; and how many trials an engine begins with, by the memory of its device.

Studies, searches and staged studies plan with the same sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sweeps.execution.engine_plan import most_at_once
from sweeps.execution.engine_text import engines_here, shares_device, threads_text
from sweeps.execution.experiment import Experiment
from sweeps.execution.options import Launch
from sweeps.planning.device_memory import GIGABYTE, Devices
from sweeps.planning.kept_forecast import KeptForecast, kept_text
from sweeps.planning.pilots import pilots_of
from sweeps.planning.plan import Plan
from sweeps.planning.resources import USABLE_SHARE, TrialResources, cohort_width, resources_text
from sweeps.planning.speed import known_speed, speed_file
from trainables.io.files import FileDamaged, read_json
from trainables.memory_file import FORECAST_FILE


def planned_at_once(planned: Plan) -> int:
    """Return how many trials and pilots of a plan can run at the same time."""
    return most_at_once([*planned.specs, *pilots_of(planned.pilots)])


def with_width(launch: Launch, plans: Sequence[Plan], at_once: int, drawn: int | None = None) -> Launch:
    """Return the launch with the most trials of an engine for which there is memory, as its plan forecasts it.

    Args:
        plans: the plan of a study, of the edges of a search's space, or of each stage.
        at_once: how many trials can run at the same time.
        drawn: how many trials a search draws at a time, any of which may be the largest; None if the plan has all.
    """
    found = [one for plan in plans for one in (*plan.resources, *plan.pilot_resources)]
    devices = plans[0].devices
    # the nodes of a cluster are not asked: this machine says nothing about their memory
    if not found or devices is None or not (launch.is_local or devices.are_given):
        return launch
    return replace(launch, width=cohort_width(found, _share(devices, launch, at_once), drawn))


def forecast_texts(
    plans: Sequence[Plan], launch: Launch, at_once: int, kept: Sequence[KeptForecast], trials: int | None = None
) -> list[str]:
    """Return the sentences of a plan on its engines, on kept activations, and on memory, minutes and money.

    Args:
        plans: as for `with_width`, which has given the launch its width.
        at_once: how many trials can run at the same time.
        kept: what is kept of each placement that is shown.
        trials: how many trials a search draws in all; None if the plans have all.
    """
    found = [one for plan in plans for one in plan.resources]
    pilots = sum(one.flops for plan in plans for one in plan.pilot_resources)
    engines = engines_here(at_once, launch)
    taken = resources_text(found, known_speed(speed_file()), launch.price, engines, trials, pilots)
    frozen = kept_text(kept, launch.cache) if launch.cohort != 1 else ""
    width = _width_text(found, plans[0].devices, launch, at_once)
    return [threads_text(at_once, launch), *filter(None, (frozen, taken, width))]


def _width_text(
    found: Sequence[TrialResources], devices: Devices | None, launch: Launch, at_once: int
) -> str:  # fmt: skip
    if launch.width is None or devices is None or launch.cohort == 1:
        return ""
    own_bytes = _share(devices, launch, at_once)
    share, largest = f"{own_bytes / GIGABYTE:.3g} GB", max(one.memory.peak for one in found)
    if largest > USABLE_SHARE * own_bytes:
        return (
            f"An engine trains one of these trials at a time: {USABLE_SHARE:.0%} of {share} of memory do not hold the "
            f"largest, which takes {largest / GIGABYTE:.3g} GB. Where it runs out of memory, its passes become smaller."
        )
    asked = f", fewer than --cohort {launch.cohort}" if launch.cohort and launch.cohort > launch.width else ""
    return (
        f"An engine trains at most {launch.most_trials} of these trials at once: {share} of memory hold {launch.width}"
        f"{asked}. The others follow."
    )


def _share(devices: Devices, launch: Launch, at_once: int) -> float:
    """Return the bytes of an engine: its GPU, or its part of the memory that engines without one share."""
    return min(devices.bytes_each) / (engines_here(at_once, launch) if shares_device(launch) else 1)


def with_widths(found: Sequence[TrialResources], launch: Launch) -> list[TrialResources]:
    """Return forecasts with the width of the launch, as an experiment keeps them."""
    return [replace(one, at_once=launch.width) for one in found]


def kept_width(experiment: Experiment) -> int | None:
    """Return the width that the plan of an experiment found, None where memory did not limit it.

    Raises:
        FileDamaged: the file of the forecast is not as it was written.
    """
    path = experiment.directory / FORECAST_FILE
    if not path.exists():
        return None
    widths = read_widths(path)
    return max(1, min(widths)) if widths else None  # 0: of an earlier version, where not even one fitted


def read_widths(path: Path) -> list[int]:
    """Return the widths in the file of a forecast, of trials that memory limits.

    Raises:
        FileDamaged: the file is not as it was written.
    """
    try:
        found = [one["at_once"] for one in read_json(path)]
    except (KeyError, TypeError):
        found = [-1]
    widths = [one for one in found if one is not None]
    if not all(type(one) is int and one >= 0 for one in widths):
        raise FileDamaged(
            f"{path}: the forecast must be as it was written, but it is not",
            "delete it: trials then begin with whole batches, as many at once as --cohort says",
        )
    return widths
