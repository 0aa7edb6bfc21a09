"""Measures which cut of a cohort is fastest; each trial alone is always one of those measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainables.cohort.cuts import ALONE, Cut, Member, Trunk, candidates, passes

MIN_GAIN = 0.03  # of the seconds, for fewer and larger passes to be worth their memory
HOPELESS = 1.25  # times the fastest first run, which is not measured again
WORSE = 1.1  # times the fastest first run of fewer passes, at which more passes are not tried
RUNS = 2

# runs a step without an update, pass after pass; None if a pass exceeds the memory of the device
StepSeconds = Callable[[Sequence[tuple[int, ...]]], float | None]


@dataclass(frozen=True)
class Calibration:
    """The fastest cut of a cohort, with the seconds of one step of all members by it and by each alone.

    Seconds are None where nothing was measured: a single member, or not even one fits the device.
    """

    cut: Cut
    seconds: float | None = None
    alone_seconds: float | None = None


def calibrated(members: Sequence[Member], trunk: Trunk, seconds: StepSeconds) -> Calibration:
    """Return the fastest cut: whole steps are timed, each candidate as it will run.

    The first run of a cut allocates memory that later ones reuse, so the fastest of several counts.
    """
    if len(members) < 2:
        return Calibration(ALONE)
    found = _first_runs(members, trunk, seconds)
    for _ in range(RUNS - 1):
        fastest = min(found.values(), default=0.0)
        for cut in [one for one in found if one == ALONE or found[one] <= HOPELESS * fastest]:
            again = seconds(passes(members, cut))
            if again is None:
                del found[cut]
            else:
                found[cut] = min(found[cut], again)
    return _fastest(members, found)


def _first_runs(members: Sequence[Member], trunk: Trunk, seconds: StepSeconds) -> dict[Cut, float]:
    found: dict[Cut, float] = {}
    for cut in candidates(members, trunk):
        once = seconds(passes(members, cut))
        if once is None:
            continue
        fewer = [value for known, value in found.items() if known != ALONE]
        found[cut] = once
        if fewer and once > WORSE * min(fewer):
            break
    return found


def _fastest(members: Sequence[Member], found: dict[Cut, float]) -> Calibration:
    best = ALONE
    for cut in sorted(found, key=lambda one: -len(passes(members, one))):
        if cut != best and (best not in found or found[cut] < (1.0 - MIN_GAIN) * found[best]):
            best = cut
    return Calibration(best, found.get(best), found.get(ALONE))
