"""Guards with an error rate: the same rules, but a test decides at each eval whether a limit is broken.

A rule keeps its threshold and its patience. Its error over a run is shared by the planned evals, so that a trial well
within the limit is stopped in at most that share of runs. What is undecided is not broken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from trainables.constraint import signed
from trainables.decision import Ask, Continue, Decision, Eval, Guard, Stop
from trainables.guards import Ceiling, Floor, Widening
from trainables.hypothesis_tests import Side, binomial_test, gap_draws, sequential_test
from trainables.probes.metric import Proportion, RowResults
from trainables.probes.reserve import RESERVED_METRICS
from trainables.record import Measurement

Reading = Literal["tested", "exact"]
Standing = Literal["kept", "broken", "undecided"]

MARGIN = 0.05  # on both sides of a limit: the rates that the sequential test tells apart
RUN_ERROR = 0.05  # of a run, shared by its evals
ASKED_AT_ONCE = 16  # rows of the reserve


@dataclass(frozen=True)
class OnRows:
    """An eval on some of its rows, as a rule reads it."""

    metrics: Mapping[str, float]
    counts: Mapping[str, Proportion] = field(default_factory=dict)
    rows: Mapping[str, RowResults] = field(default_factory=dict)
    reserve: Mapping[str, RowResults] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """The rows of an eval at one look of a sequential test, the limit from the baseline on them, and the decision."""

    own: Proportion
    limit: float
    standing: Standing


@dataclass(frozen=True)
class SequentialGuard:
    """Decides a floor or a ceiling by a sequential test, on the core and as much of the reserve as the test needs."""

    rule: Floor | Ceiling
    planned_evals: int

    @property
    def metric(self) -> str:
        """Return the metric of the rule."""
        return self.rule.metric

    @property
    def evals_needed(self) -> int:
        """Return how many consecutive evals must break the limit."""
        return self.rule.evals_needed

    def limit(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return the limit from the baseline's answers on the rows on which the newest eval was decided."""
        return self.read(baseline, evals[-1]).limit if evals else self.rule.limit(baseline, evals)

    def standing(self, baseline: Eval, one: Eval) -> Standing:
        """Return whether one eval breaks the limit, on the rows on which the test decided first."""
        return self.read(baseline, one).standing

    def decide(self, baseline: Eval, evals: Sequence[Eval]) -> Decision:
        """Ask while the newest eval is undecided and rows are left; stop when all recent evals break the limit."""
        newest = self.read(baseline, evals[-1])
        left = len(_results(self.metric, baseline)) - newest.own.rows
        if newest.standing == "undecided" and left > 0:
            return Ask(min(left, ASKED_AT_ONCE))
        recent = evals[-self.evals_needed :]
        if len(recent) < self.evals_needed or any(self.standing(baseline, one) != "broken" for one in recent):
            return Continue()
        healthy = newest.limit - MARGIN if _is_above(self.rule) else newest.limit + MARGIN
        return _stop(self.rule, newest.own, newest.limit, healthy)

    def excess(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return how far the rate lies beyond the limit; positive exactly when the guard stops."""
        return signed(self.rule.excess(baseline, evals), isinstance(self.decide(baseline, evals), Stop))

    def read(self, baseline: Eval, one: Eval) -> Look:
        """Return the first look at one eval that decides, or the last one.

        A trial looks at the core, then after every `ASKED_AT_ONCE` rows of the reserve. A decision stands: rows that
        another guard asks afterwards are not read.
        """
        own, known, error = _results(self.metric, one), _results(self.metric, baseline), RUN_ERROR / self.planned_evals
        core = len(one.rows[self.metric].values)
        for rows in (*range(core, len(own), ASKED_AT_ONCE), len(own)):
            asked = list(own)[:rows]
            found = Proportion(round(sum(own[row] for row in asked)), rows)
            limit = self.rule.limit(OnRows({self.metric: sum(known[row] for row in asked) / rows}), ())
            standing = _standing(self.rule, sequential_test(found.successes, rows, limit, MARGIN, error))
            if standing != "undecided":
                break
        return Look(found, limit, standing)


@dataclass(frozen=True)
class BinomialGuard:
    """Decides a floor or a ceiling on a proportion without a reserve by an exact binomial test at every eval.

    A metric that is no proportion is compared with its limit as it is.
    """

    rule: Floor | Ceiling
    planned_evals: int

    @property
    def metric(self) -> str:
        """Return the metric of the rule."""
        return self.rule.metric

    @property
    def evals_needed(self) -> int:
        """Return how many consecutive evals must break the limit."""
        return self.rule.evals_needed

    def limit(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return the limit of the rule."""
        return self.rule.limit(baseline, evals)

    def standing(self, baseline: Eval, one: Eval) -> Standing:
        """Return whether one eval, of a proportion, breaks the limit."""
        own, limit = one.counts[self.metric], self.rule.limit(baseline, ())
        return _standing(self.rule, binomial_test(own.successes, own.rows, limit, RUN_ERROR / self.planned_evals))

    def decide(self, baseline: Eval, evals: Sequence[Eval]) -> Decision:
        """Stop when all recent evals break the limit."""
        if self.metric not in evals[-1].counts:
            return self.rule.decide(baseline, evals)
        recent = evals[-self.evals_needed :]
        if len(recent) < self.evals_needed or any(self.standing(baseline, one) != "broken" for one in recent):
            return Continue()
        limit = self.rule.limit(baseline, ())
        return _stop(self.rule, evals[-1].counts[self.metric], limit, limit)

    def excess(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return how far the rate lies beyond the limit; positive exactly when the guard stops."""
        return signed(self.rule.excess(baseline, evals), isinstance(self.decide(baseline, evals), Stop))


@dataclass(frozen=True)
class GapGuard:
    """Decides a widening gap by a bootstrap over rows: all but the error's share of draws must exceed the limit."""

    rule: Widening
    planned_evals: int

    @property
    def metric(self) -> str:
        """Return the metric of the rule."""
        return self.rule.metric

    @property
    def evals_needed(self) -> int:
        """Return how many evals the rule needs."""
        return self.rule.evals_needed

    def limit(self, baseline: Eval, evals: Sequence[Eval]) -> float | None:
        """Return the limit of the rule."""
        return self.rule.limit(baseline, evals)

    def decide(self, baseline: Eval, evals: Sequence[Eval]) -> Decision:
        """Stop when the rule is broken on these rows, and the bootstrap over rows agrees.

        Raises:
            KeyError: an eval has no losses by row.
        """
        decision = self.rule.decide(baseline, evals)
        if not isinstance(decision, Stop):
            return decision
        smallest = min(evals, key=lambda one: one.metrics[self.metric])
        best, last = gap_draws([(one.rows["eval_loss"], one.rows["train_loss"]) for one in (smallest, evals[-1])])
        widened = (last - best.clip(min=0.0) > self.rule.max_widening).mean()
        if widened < 1.0 - RUN_ERROR / self.planned_evals:
            return Continue()
        return Stop(f"{decision.reason} ({_error_text()})")

    def excess(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return how far the gap lies beyond its limit; positive exactly when the guard stops."""
        return signed(self.rule.excess(baseline, evals), isinstance(self.decide(baseline, evals), Stop))


TestedGuard = SequentialGuard | BinomialGuard | GapGuard


def deciding(guards: Sequence[Guard], reading: Reading, planned_evals: int) -> Sequence[Guard]:
    """Return the guards as they decide in a trial of `planned_evals`: as tests, or by the numbers as they are."""
    return guards if reading == "exact" else as_tests(guards, planned_evals)


def as_tests(guards: Sequence[Guard], planned_evals: int) -> tuple[Guard, ...]:
    """Return the guards as tests over a run of `planned_evals`; a rule without a test decides as it is."""
    return tuple(_tested(guard, planned_evals) for guard in guards)


def _tested(guard: Guard, planned_evals: int) -> Guard:
    if isinstance(guard, Widening):
        return GapGuard(guard, planned_evals)
    if not isinstance(guard, Floor | Ceiling):
        return guard
    kind = SequentialGuard if guard.metric in RESERVED_METRICS else BinomialGuard
    return kind(guard, planned_evals)


def error_values() -> dict[str, float]:
    """Return the constants of the tests, as stored in `study.json`."""
    return {"run_error": RUN_ERROR, "margin": MARGIN}


def standings(guards: Sequence[Guard], baseline: Eval, one: Eval) -> dict[str, Standing]:
    """Return of each guard with a test of one eval what it decided, by metric."""
    found = [guard for guard in guards if isinstance(guard, SequentialGuard | BinomialGuard)]
    return {guard.metric: guard.standing(baseline, one) for guard in found if guard.metric in one.counts}


def rows_to_ask(guards: Sequence[Guard], baseline: Eval, evals: Sequence[Measurement]) -> int:
    """Return how many rows of the reserve the guards ask for after the newest eval; 0 when one of them stops."""
    decisions = [guard.decide(baseline, evals) for guard in guards]
    if any(isinstance(one, Stop) for one in decisions):
        return 0
    return max((one.rows for one in decisions if isinstance(one, Ask)), default=0)


def _results(metric: str, one: Eval) -> dict[str, float]:
    reserve = one.reserve.get(metric)
    return {**one.rows[metric].values, **(reserve.values if reserve else {})}


def _is_above(rule: Floor | Ceiling) -> bool:
    return isinstance(rule, Ceiling)


def _standing(rule: Floor | Ceiling, side: Side) -> Standing:
    if side == "undecided":
        return "undecided"
    return "broken" if (side == "above") == _is_above(rule) else "kept"


def _stop(rule: Floor | Ceiling, own: Proportion, limit: float, healthy: float) -> Stop:
    sign = ">" if _is_above(rule) else "<"
    reason = f"{rule.metric} {own.successes}/{own.rows} {sign} {limit:.2f} ({_error_text()} at {healthy:.2f})"
    return Stop(reason, own.rate)


def _error_text() -> str:
    return f"error ≤ {RUN_ERROR:.0%} a run".replace("%", " %")
