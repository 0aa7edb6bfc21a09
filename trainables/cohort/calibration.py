"""Measures which cut of a cohort is fastest; each trial alone is always one of those measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainables.cohort.cuts import ALONE, Cut, Member, Trunk, candidates, passes

MIN_GAIN = 0.03  # of the seconds, for fewer and larger passes to be worth their memory
HOPELESS = 1.15  # times the fastest first run: not measured again
WORSE = 1.1  # times the fastest first run of fewer passes: still more passes are not tried
CONTENDERS = 2  # of the fastest, which are run once more, and each alone always

# runs the forward and backward of one pass without an update; None if it exceeds the memory of the device
PassSeconds = Callable[[Sequence[int]], float | None]


@dataclass(frozen=True)
class Calibration:
    """The fastest cut of a cohort, with the seconds of one step of all members by it and by each alone.

    Seconds are None where nothing was measured: a single member, or not even one fits the device.
    """

    cut: Cut
    seconds: float | None = None
    alone_seconds: float | None = None


def calibrated(members: Sequence[Member], trunk: Trunk, seconds: PassSeconds) -> Calibration:
    """Return the fastest cut: whole steps are timed, each candidate by the passes that will run.

    The first run of a cut allocates memory that later ones reuse, so the fastest of several counts.
    """
    if len(members) < 2:
        return Calibration(ALONE)
    found = _first_runs(members, trunk, seconds)
    for cut in _contenders(found):
        again = step_seconds(members, cut, seconds)
        if again is None:
            del found[cut]
        else:
            found[cut] = min(found[cut], again)
    return _fastest(members, found)


def step_seconds(members: Sequence[Member], cut: Cut, seconds: PassSeconds) -> float | None:
    """Return the seconds of a step by a cut; of passes with members of the same depths and ranks one is timed."""
    by_number = {one.number: one for one in members}
    kind_of = lambda numbers: tuple((*by_number[one].depth, by_number[one].rank) for one in numbers)  # noqa: E731
    split = passes(members, cut)
    counts = Counter(map(kind_of, split))
    distinct: dict[tuple[tuple[int, int, int], ...], tuple[int, ...]] = {}
    for numbers in split:
        distinct.setdefault(kind_of(numbers), numbers)
    total = 0.0
    for kind, numbers in distinct.items():
        once = seconds(numbers)
        if once is None:
            return None
        total += counts[kind] * once
    return total


def _first_runs(members: Sequence[Member], trunk: Trunk, seconds: PassSeconds) -> dict[Cut, float]:
    found: dict[Cut, float] = {}
    for cut in candidates(members, trunk):
        once = step_seconds(members, cut, seconds)
        if once is None:
            continue
        fewer = [value for known, value in found.items() if known != ALONE]
        found[cut] = once
        if fewer and once > WORSE * min(fewer):
            break
    return found


def _contenders(found: dict[Cut, float]) -> list[Cut]:
    fastest = sorted(found, key=found.__getitem__)[:CONTENDERS]
    close = [one for one in fastest if found[one] <= HOPELESS * found[fastest[0]]]
    return [one for one in found if one == ALONE or one in close]


def _fastest(members: Sequence[Member], found: dict[Cut, float]) -> Calibration:
    best = ALONE
    for cut in sorted(found, key=lambda one: -len(passes(members, one))):
        if cut != best and (best not in found or found[cut] < (1.0 - MIN_GAIN) * found[best]):
            best = cut
    return Calibration(best, found.get(best), found.get(ALONE))
