"""Decides whether keeping activations pays, from how often rows are read and what a step takes; pure functions.

The first pass over a row costs more than one that keeps nothing, since its entry is computed in a shape of its own and
written; every later one costs less. What was kept before is not asked: a decision that depended on it would make runs
with a cold and with a warm cache differ by rounding. Files count as read again, for that is what they are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MARGIN = 0.03  # of the seconds: what keeping must save to be worth its memory
PAYS_FROM = 1.5  # reads of a row where nothing was timed: 1.4 was measured (docs/frozen.md)


@dataclass(frozen=True)
class Reads:
    """How often a trial reads a row: one that it is trained on, and one of its evals.

    `training` is the mean over the rows of all steps.
    """

    training: float
    evals: int

    @classmethod
    def of(cls, rows: int, distinct_rows: int, evals: int) -> Reads:
        """Return the reads of a trial whose steps take `rows` rows, `distinct_rows` at most of them different."""
        return cls(rows / max(1, min(rows, distinct_rows)), evals)


@dataclass(frozen=True)
class StepCosts:
    """Seconds of a step without entries (`plain`), with entries that it computes (`cold`), and with kept ones (`warm`).

    The step's passes count together, so that those of one cut share the entries. `row_bytes` are those of the entries
    of a mean row.
    """

    plain: float
    cold: float
    warm: float
    row_bytes: float = 0.0

    def fastest(self, other: StepCosts) -> StepCosts:
        """Return the fastest of each of two runs."""
        plain, cold, warm = min(self.plain, other.plain), min(self.cold, other.cold), min(self.warm, other.warm)
        return StepCosts(plain, cold, warm, self.row_bytes)

    def fits(self, rows: int, room_bytes: float) -> float:
        """Return the share of `rows` rows whose entries find room."""
        needed = self.row_bytes * rows
        return min(1.0, room_bytes / needed) if needed else 1.0


@dataclass(frozen=True)
class Keeping:
    """Whether passes of training and of evals start from entries, and why.

    `costs` are those of a step, None where nothing was timed; `fits` is the share of the rows that find room.
    """

    training: bool
    evals: bool
    reason: str
    costs: StepCosts | None = None
    fits: float = 1.0

    def as_json(self) -> dict[str, Any]:
        """Return the decision as plain fields."""
        return asdict(self)


def keeping_in(fields: Mapping[str, Any]) -> Keeping:
    """Return the decision that was kept as plain fields.

    Raises:
        KeyError, TypeError, ValueError: they are no decision.
    """
    costs = fields["costs"]
    found = Keeping(**{**fields, "costs": None if costs is None else costs_in(costs)})
    if type(found.training) is not bool or type(found.evals) is not bool:
        raise TypeError("a decision must be true or false for training and for evals")
    return found


def costs_in(fields: Mapping[str, Any]) -> StepCosts:
    """Return the costs that were kept as plain fields.

    Raises:
        TypeError, ValueError: they are no costs of a step.
    """
    found = StepCosts(**{name: float(value) for name, value in fields.items()})
    if not all(0 < one < float("inf") for one in (found.plain, found.cold, found.warm)):
        raise ValueError(f"seconds of a step must be positive, but got {found}")
    return found


ALWAYS = Keeping(True, True, "kept in every pass")
NEVER = Keeping(False, False, "nothing is kept (--cache off)")
RANDOM = Keeping(False, False, "nothing is kept: the base has dropout of its own")
IN_TURN = Keeping(False, False, "nothing is kept: trials of this family train one after another")
ALONE = Keeping(False, False, "nothing is kept: the trial trains alone (--cohort 1)")


def pays(reads: float, costs: StepCosts | None, fits: float = 1.0) -> bool:
    """Return whether `reads` passes over each row take less time from entries than without.

    A share `fits` of the rows is kept; the others are computed anew in each pass, in the shape of an entry.
    """
    if costs is None:
        return reads >= PAYS_FROM and fits >= 1.0
    first, again = min(reads, 1.0), max(0.0, reads - 1.0)
    kept = fits * (first * costs.cold + again * costs.warm) + (1.0 - fits) * reads * costs.cold
    return kept < (1.0 - MARGIN) * reads * costs.plain


def needs_costs(reads: Reads, has_files: bool, shares_cut: bool = False) -> bool:
    """Return whether steps have to be timed: not where files are kept, nor where no entry is read twice.

    `shares_cut` says that several passes of a step start at one cut.
    """
    return not has_files and (reads.training > 1.0 or shares_cut)


def decide(reads: Reads, has_files: bool, costs: StepCosts | None = None, fits: float = 1.0) -> Keeping:
    """Return what to keep; without `costs`, rows pay that are read `PAYS_FROM` times.

    `fits` is counted for rows of training; those of evals are taken to find room as often.
    """
    if has_files:
        return Keeping(True, True, "kept in files, for later launches")
    training, evals = pays(reads.training, costs, fits), pays(reads.evals, costs, fits)
    return Keeping(training, evals, _reason(reads, (training, evals), costs, fits), costs, fits)


def _reason(reads: Reads, kept: tuple[bool, bool], costs: StepCosts | None, fits: float) -> str:
    chosen = {(True, True): "kept", (True, False): "kept for training alone", (False, True): "kept for evals alone",
              (False, False): "not kept"}[kept]  # fmt: skip
    how_often = f"a row is trained on {reads.training:.3g} times and asked in {reads.evals} evals"
    room = f", {fits:.0%} of the rows find room" if fits < 1.0 else ""
    timed = "" if costs is None else (
        f"; a step takes {costs.plain:.3g} s without, {costs.cold:.3g} s where they are computed, "
        f"{costs.warm:.3g} s where they are read"
    )  # fmt: skip
    return f"{chosen}: {how_often}{room}{timed}"
