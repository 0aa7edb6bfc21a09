"""The guards: frozen rules that stop a trial that lost generality, and the constraint on its best checkpoint.

All are pure functions of the baseline's metrics and the trial's evals so far. A rule whose metric is missing raises
KeyError: a guard that cannot see must not pass. Source: brief 001, "Early Stop & Safety Criteria".
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from trainables.record import Measurement, Verdict

Metrics = Mapping[str, float]

ROUNDING = 1e-9  # 1.00 - 0.10 is not 0.90 in binary; a rate on the limit keeps the limit


@dataclass(frozen=True)
class Floor:
    """Stops when a metric stays below a floor: the higher of a share of the baseline and an absolute value."""

    metric: str
    max_relative_drop: float
    min_absolute: float
    patience_evals: int

    def floor(self, baseline: Metrics) -> float:
        """Return the value the metric must not stay below."""
        return max((1.0 - self.max_relative_drop) * baseline[self.metric], self.min_absolute)

    def broken(self, baseline: Metrics, history: Sequence[Metrics]) -> str | None:
        """Return the reason to stop, or None."""
        limit = self.floor(baseline)
        recent = [metrics[self.metric] for metrics in history[-self.patience_evals :]]
        if len(recent) < self.patience_evals or any(value >= limit - ROUNDING for value in recent):
            return None
        value, shown = _apart(recent[-1], limit)
        return f"{self.metric} {value} < {shown} {_for(self.patience_evals)} {_base(baseline, self.metric)}"

    def excess(self, baseline: Metrics, history: Sequence[Metrics]) -> float:
        """Return how far the metric lies below its floor; positive exactly when the guard is broken."""
        recent = [metrics[self.metric] for metrics in history[-self.patience_evals :]]
        return _signed(self.floor(baseline) - max(recent), self.broken(baseline, history))


@dataclass(frozen=True)
class Ceiling:
    """Stops when a metric stays above the baseline by more than an absolute rise (0.15 = 15 percentage points)."""

    metric: str
    max_absolute_rise: float
    patience_evals: int

    def ceiling(self, baseline: Metrics) -> float:
        """Return the value the metric must not stay above."""
        return baseline[self.metric] + self.max_absolute_rise

    def broken(self, baseline: Metrics, history: Sequence[Metrics]) -> str | None:
        """Return the reason to stop, or None."""
        limit = self.ceiling(baseline)
        recent = [metrics[self.metric] for metrics in history[-self.patience_evals :]]
        if len(recent) < self.patience_evals or any(value <= limit + ROUNDING for value in recent):
            return None
        value, shown = _apart(recent[-1], limit)
        return f"{self.metric} {value} > {shown} {_for(self.patience_evals)} {_base(baseline, self.metric)}"

    def excess(self, baseline: Metrics, history: Sequence[Metrics]) -> float:
        """Return how far the metric lies above its ceiling; positive exactly when the guard is broken."""
        recent = [metrics[self.metric] for metrics in history[-self.patience_evals :]]
        return _signed(min(recent) - self.ceiling(baseline), self.broken(baseline, history))


@dataclass(frozen=True)
class Widening:
    """Stops when a gap lies above its own best by more than `max_widening` and grew over the last intervals.

    A best below zero counts as zero: eval rows that happen to be easier than the training rows are no lead to lose,
    and that difference shrinks with the loss itself.
    """

    metric: str
    max_widening: float
    worsening_intervals: int

    def broken(self, baseline: Metrics, history: Sequence[Metrics]) -> str | None:
        """Return the reason to stop, or None; the baseline plays no part, the trial is held against itself."""
        values = [metrics[self.metric] for metrics in history]
        recent = values[-(self.worsening_intervals + 1) :]
        if len(recent) <= self.worsening_intervals:
            return None
        worsening = all(later > earlier for earlier, later in itertools.pairwise(recent))
        best = max(0.0, min(values))
        if not worsening or values[-1] - best <= self.max_widening + ROUNDING:
            return None
        return (
            f"{self.metric} {values[-1]:.2f} > best {best:.2f} + {self.max_widening:.2f} "
            f"and worsening over {self.worsening_intervals} intervals"
        )

    def excess(self, baseline: Metrics, history: Sequence[Metrics]) -> float:
        """Return how far the gap lies above what it may widen to; positive exactly when the guard is broken."""
        values = [metrics[self.metric] for metrics in history]
        widening = values[-1] - max(0.0, min(values)) - self.max_widening
        return _signed(widening, self.broken(baseline, history))


@dataclass(frozen=True)
class Fall:
    """Stops when a metric stays below its value at the hand-over by more than an absolute drop (0.10 = 10 points).

    The hand-over is the first eval of a continued trial, before its first step: what its parent knew. The base is no
    reference, it never knew the earlier stages. Source: brief 000, whose 92 % fell to 65 %.
    """

    metric: str
    max_absolute_drop: float
    patience_evals: int

    def broken(self, baseline: Metrics, history: Sequence[Metrics]) -> str | None:
        """Return the reason to stop, or None; the baseline plays no part."""
        values = [metrics[self.metric] for metrics in history]
        limit, recent = values[0] - self.max_absolute_drop, values[-self.patience_evals :]
        if len(values) <= self.patience_evals or any(value >= limit - ROUNDING for value in recent):
            return None
        value, shown = _apart(recent[-1], limit)
        return f"{self.metric} {value} < {shown} {_for(self.patience_evals)} (at the hand-over {values[0]:.2f})"

    def excess(self, baseline: Metrics, history: Sequence[Metrics]) -> float:
        """Return how far the metric lies below what it may fall to; positive exactly when the guard is broken."""
        values = [metrics[self.metric] for metrics in history]
        lowest = values[0] - self.max_absolute_drop
        return _signed(lowest - max(values[-self.patience_evals :]), self.broken(baseline, history))


Guard = Floor | Ceiling | Widening | Fall


@dataclass(frozen=True)
class BestConstraint:
    """What an eval must keep to be a candidate for the best checkpoint, in absolute points of the baseline."""

    max_irrelevant_pass_drop: float = 0.10
    max_hallucination_rise: float = 0.10

    def admits(self, baseline: Metrics, metrics: Metrics) -> bool:
        """True when irrelevant-image pass and hallucination lie within their distance of the baseline."""
        return (
            metrics["irrelevant_pass"] >= baseline["irrelevant_pass"] - self.max_irrelevant_pass_drop - ROUNDING
            and metrics["hallucination"] <= baseline["hallucination"] + self.max_hallucination_rise + ROUNDING
        )

    def excess(self, baseline: Metrics, metrics: Metrics) -> float:
        """Return the larger distance beyond what is allowed; positive exactly when the eval is not admitted."""
        lost = baseline["irrelevant_pass"] - self.max_irrelevant_pass_drop - metrics["irrelevant_pass"]
        risen = metrics["hallucination"] - baseline["hallucination"] - self.max_hallucination_rise
        return _signed(max(lost, risen), not self.admits(baseline, metrics))


@dataclass(frozen=True)
class TextConstraint:
    """The same for a base that sees no pictures: what it must keep of the questions of text that it answered."""

    max_text_retention_drop: float = 0.10

    def admits(self, baseline: Metrics, metrics: Metrics) -> bool:
        """True when text retention lies within its distance of the baseline."""
        lowest = baseline["text_retention"] - self.max_text_retention_drop
        return metrics["text_retention"] >= lowest - ROUNDING

    def excess(self, baseline: Metrics, metrics: Metrics) -> float:
        """Return the distance beyond what is allowed; positive exactly when the eval is not admitted."""
        lost = baseline["text_retention"] - self.max_text_retention_drop - metrics["text_retention"]
        return _signed(lost, not self.admits(baseline, metrics))


Constraint = BestConstraint | TextConstraint

GUARDS: tuple[Guard, ...] = (
    Floor("irrelevant_pass", max_relative_drop=0.20, min_absolute=0.80, patience_evals=2),
    Ceiling("hallucination", max_absolute_rise=0.15, patience_evals=1),
    Widening("generalization_gap", max_widening=0.06, worsening_intervals=2),
    Floor("caption_sanity", max_relative_drop=0.40, min_absolute=0.0, patience_evals=2),
)
CONSTRAINT = BestConstraint()
# what stands for the guards on pictures where a base sees none
TEXT_GUARD = Floor("text_retention", max_relative_drop=0.20, min_absolute=0.0, patience_evals=2)


def judge(guards: Sequence[Guard], baseline: Metrics, evals: Sequence[Measurement]) -> Verdict | None:
    """Return the verdict of the first guard that is broken after the newest eval, or None.

    Raises:
        KeyError: a guard's metric is missing.
    """
    history = [one.metrics for one in evals]
    for guard in guards:
        reason = guard.broken(baseline, history)
        if reason:
            return Verdict(kind="pruned", step=evals[-1].step, cause=guard.metric, reason=reason)
    return None


def broken_by_baseline(guards: Sequence[Guard], baseline: Metrics) -> list[str]:
    """Return the floors the base itself does not reach: with them every arm would be pruned, whatever it learned."""
    return [
        f"{guard.metric}: baseline {baseline[guard.metric]:.2f} < {guard.floor(baseline):.2f}"
        for guard in guards
        if isinstance(guard, Floor) and baseline[guard.metric] < guard.floor(baseline) - ROUNDING
    ]


def applicable(guards: Sequence[Guard], metrics: Collection[str]) -> tuple[tuple[Guard, ...], tuple[Guard, ...]]:
    """Part the guards into those whose metric is reported and those whose metric is not, in their order.

    It is decided once, before a launch: while a trial runs, a guard without its metric raises.
    """
    kept = tuple(guard for guard in guards if guard.metric in metrics)
    return kept, tuple(guard for guard in guards if guard not in kept)


def applicable_constraint(constraint: Constraint, metrics: Collection[str]) -> Constraint:
    """Return the constraint, or the one on text where a study's own asks for pictures and none are shown."""
    pictures = isinstance(constraint, BestConstraint) and "irrelevant_pass" not in metrics
    return TextConstraint() if pictures else constraint


def best_eval(constraint: Constraint, baseline: Metrics, evals: Sequence[Measurement]) -> Measurement | None:
    """Return the eval with the lowest eval loss among those the constraint admits, or None."""
    admitted = [one for one in evals if constraint.admits(baseline, one.metrics)]
    return min(admitted, key=lambda one: one.metrics["eval_loss"]) if admitted else None


def _signed(distance: float, broken: object) -> float:
    # a rule that is patient, or allows for rounding, is not broken by the distance alone
    return max(distance, ROUNDING) if broken else min(distance, 0.0)


def _apart(value: float, limit: float) -> tuple[str, str]:
    # two decimals, or as many as it takes: "0.80 < 0.80" is no reason
    for decimals in range(2, 9):
        shown = f"{value:.{decimals}f}", f"{limit:.{decimals}f}"
        if shown[0] != shown[1]:
            break
    return shown


def _for(patience_evals: int) -> str:
    return f"for {patience_evals} evals" if patience_evals > 1 else "at one eval"


def _base(baseline: Metrics, name: str) -> str:
    return f"(baseline {baseline[name]:.2f})"
