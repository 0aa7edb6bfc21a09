"""The guards: rules that stop a trial when it loses generality.

They are pure functions of the baseline's eval and the trial's evals so far. A missing metric raises KeyError, so that a
trial never passes a guard that could not be evaluated.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainables.constraint import ROUNDING, signed
from trainables.decision import Continue, Decision, Eval, Guard, Stop
from trainables.record import Measurement
from trainables.verdict import Verdict


@dataclass(frozen=True)
class Floor:
    """Stops when a metric stays below the larger of a share of its baseline value and an absolute minimum."""

    metric: str
    max_relative_drop: float
    min_absolute: float
    patience_evals: int

    @property
    def evals_needed(self) -> int:
        """Return how many consecutive evals must lie below the floor."""
        return self.patience_evals

    def limit(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return the value that the metric must not stay below."""
        return max((1.0 - self.max_relative_drop) * baseline.metrics[self.metric], self.min_absolute)

    def decide(self, baseline: Eval, evals: Sequence[Eval]) -> Decision:
        """Stop when the last `patience_evals` evals all lie below the floor."""
        limit, reference = self.limit(baseline, evals), f"(baseline {baseline.metrics[self.metric]:.2f})"
        return _stop_if_all_beyond(self.metric, _values(self.metric, evals), "<", limit, self.patience_evals, reference)

    def excess(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return how far the metric lies below its floor; positive exactly when the guard stops."""
        recent = _values(self.metric, evals)[-self.patience_evals :]
        return _signed(self.limit(baseline, evals) - max(recent), self.decide(baseline, evals))


@dataclass(frozen=True)
class Ceiling:
    """Stops when a metric stays above the baseline by more than an absolute rise (0.15 = 15 percentage points)."""

    metric: str
    max_absolute_rise: float
    patience_evals: int

    @property
    def evals_needed(self) -> int:
        """Return how many consecutive evals must lie above the ceiling."""
        return self.patience_evals

    def limit(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return the value that the metric must not stay above."""
        return baseline.metrics[self.metric] + self.max_absolute_rise

    def decide(self, baseline: Eval, evals: Sequence[Eval]) -> Decision:
        """Stop when the last `patience_evals` evals all lie above the ceiling."""
        limit, reference = self.limit(baseline, evals), f"(baseline {baseline.metrics[self.metric]:.2f})"
        return _stop_if_all_beyond(self.metric, _values(self.metric, evals), ">", limit, self.patience_evals, reference)

    def excess(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return how far the metric lies above its ceiling; positive exactly when the guard stops."""
        recent = _values(self.metric, evals)[-self.patience_evals :]
        return _signed(min(recent) - self.limit(baseline, evals), self.decide(baseline, evals))


@dataclass(frozen=True)
class Widening:
    """Stops when a gap exceeds its smallest value so far by more than `max_widening` and grew in each recent interval.

    A smallest value below zero counts as zero: when the eval rows are easier than the training rows, the gap is
    negative at first and rises towards zero as the loss falls, which is harmless. The baseline is not used.
    """

    metric: str
    max_widening: float
    worsening_intervals: int

    @property
    def evals_needed(self) -> int:
        """Return how many evals enclose `worsening_intervals` intervals."""
        return self.worsening_intervals + 1

    def limit(self, baseline: Eval, evals: Sequence[Eval]) -> float | None:
        """Return the value that the gap must not exceed: its smallest value so far plus `max_widening`."""
        return max(0.0, min(_values(self.metric, evals))) + self.max_widening if evals else None

    def decide(self, baseline: Eval, evals: Sequence[Eval]) -> Decision:
        """Stop when the gap grew over the last `worsening_intervals` intervals and is too wide."""
        values = _values(self.metric, evals)
        recent = values[-(self.worsening_intervals + 1) :]
        if len(recent) <= self.worsening_intervals:
            return Continue()
        worsening = all(later > earlier for earlier, later in itertools.pairwise(recent))
        best = max(0.0, min(values))
        if not worsening or values[-1] - best <= self.max_widening + ROUNDING:
            return Continue()
        return Stop(
            f"{self.metric} {values[-1]:.2f} > best {best:.2f} + {self.max_widening:.2f} "
            f"and worsening over {self.worsening_intervals} intervals"
        )

    def excess(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return how far the gap lies above its limit; positive exactly when the guard stops."""
        values = _values(self.metric, evals)
        widening = values[-1] - max(0.0, min(values)) - self.max_widening
        return _signed(widening, self.decide(baseline, evals))


@dataclass(frozen=True)
class Fall:
    """Stops when a metric stays below its value at the first eval by more than an absolute drop (0.10 = 10 points).

    A continued trial evaluates before its first step, so its first eval measures the parent adapter. The base is not a
    reference, because it was not trained on the earlier stages.
    """

    metric: str
    max_absolute_drop: float
    patience_evals: int

    @property
    def evals_needed(self) -> int:
        """Return how many consecutive evals must lie below the limit."""
        return self.patience_evals

    def limit(self, baseline: Eval, evals: Sequence[Eval]) -> float | None:
        """Return the value that the metric must not stay below; None before the first eval."""
        return evals[0].metrics[self.metric] - self.max_absolute_drop if evals else None

    def decide(self, baseline: Eval, evals: Sequence[Eval]) -> Decision:
        """Stop when the last `patience_evals` evals after the first all lie below the limit."""
        first, *after = _values(self.metric, evals)
        limit, reference = first - self.max_absolute_drop, f"(first eval {first:.2f})"
        return _stop_if_all_beyond(self.metric, after, "<", limit, self.patience_evals, reference)

    def excess(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return how far the metric lies below its limit; positive exactly when the guard stops."""
        values = _values(self.metric, evals)
        lowest = values[0] - self.max_absolute_drop
        return _signed(lowest - max(values[-self.patience_evals :]), self.decide(baseline, evals))


PASS_GUARD = Floor("irrelevant_pass", max_relative_drop=0.20, min_absolute=0.80, patience_evals=2)
HALLUCINATION_GUARD = Ceiling("hallucination", max_absolute_rise=0.15, patience_evals=1)
GAP_GUARD = Widening("generalization_gap", max_widening=0.06, worsening_intervals=2)
CAPTION_GUARD = Floor("caption_sanity", max_relative_drop=0.40, min_absolute=0.0, patience_evals=2)
GUARDS: tuple[Guard, ...] = (PASS_GUARD, HALLUCINATION_GUARD, GAP_GUARD, CAPTION_GUARD)
# replaces the guards on image metrics for a base without a vision tower
TEXT_GUARD = Floor("text_retention", max_relative_drop=0.20, min_absolute=0.0, patience_evals=2)
RULES = {rule.__name__: rule for rule in (Floor, Ceiling, Widening, Fall)}


def described(guard: Guard) -> dict[str, Any]:
    """Return a guard as plain values, as stored in `study.json`."""
    return {"rule": type(guard).__name__, **asdict(guard)}


def label_of(guard: Guard) -> str:
    """Return a short name of rule and metric, such as `floor_irrelevant_pass`."""
    return f"{type(guard).__name__.lower()}_{guard.metric}"


def guard_of(description: Mapping[str, Any]) -> Guard | None:
    """Return the guard with these values, the inverse of `described`; None if this module does not define its rule."""
    rule = RULES.get(description["rule"])
    return rule(**{key: value for key, value in description.items() if key != "rule"}) if rule else None


def judge(guards: Sequence[Guard], baseline: Eval, evals: Sequence[Measurement]) -> Verdict | None:
    """Return the verdict of the first guard that stops the trial after its newest eval, or None.

    Raises:
        KeyError: a guard's metric is missing.
    """
    for guard in guards:
        decision = guard.decide(baseline, evals)
        if isinstance(decision, Stop):
            newest = evals[-1]
            return Verdict(
                kind="pruned",
                step=newest.step,
                cause=guard.metric,
                reason=decision.reason,
                value=newest.metrics[guard.metric] if decision.value is None else decision.value,
                limit=guard.limit(baseline, evals),
            )
    return None


def broken_by_baseline(guards: Sequence[Guard], baseline: Eval) -> list[str]:
    """Describe the guards that the baseline itself violates; they would prune every trial."""
    found = []
    for guard in guards:
        evals = [baseline] * guard.evals_needed
        if isinstance(guard.decide(baseline, evals), Stop):
            value, limit = baseline.metrics[guard.metric], guard.limit(baseline, evals)
            relation = "" if limit is None else f" {'<' if value < limit else '>'} {limit:.2f}"
            found.append(f"{guard.metric}: baseline {value:.2f}{relation}")
    return found


def applicable(guards: Sequence[Guard], metrics: Collection[str]) -> tuple[tuple[Guard, ...], tuple[Guard, ...]]:
    """Split the guards, in order, into those whose metric is in `metrics` and the others.

    This happens once, before a launch. While a trial runs, a guard whose metric is missing raises.
    """
    kept = tuple(guard for guard in guards if guard.metric in metrics)
    return kept, tuple(guard for guard in guards if guard not in kept)


def _values(metric: str, evals: Sequence[Eval]) -> list[float]:
    return [one.metrics[metric] for one in evals]


def _stop_if_all_beyond(
    metric: str, values: Sequence[float], sign: Literal["<", ">"], limit: float, patience: int, reference: str
) -> Decision:
    recent, lowest, highest = values[-patience:], limit - ROUNDING, limit + ROUNDING
    if len(recent) < patience or any(value >= lowest if sign == "<" else value <= highest for value in recent):
        return Continue()
    value, shown = _formatted(recent[-1], limit)
    return Stop(f"{metric} {value} {sign} {shown} {_duration(patience)} {reference}")


def _signed(distance: float, decision: Decision) -> float:
    return signed(distance, isinstance(decision, Stop))


def _formatted(value: float, limit: float) -> tuple[str, str]:
    # at least two decimals, and more until the two differ: "0.80 < 0.80" would be confusing
    for decimals in range(2, 9):
        shown = f"{value:.{decimals}f}", f"{limit:.{decimals}f}"
        if shown[0] != shown[1]:
            break
    return shown


def _duration(patience_evals: int) -> str:
    return f"for {patience_evals} evals" if patience_evals > 1 else "at one eval"
