"""Probes that cannot tell whether an arm loses generality: a bad baseline, or too few rows for the guard's test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainables.constraint import ROUNDING
from trainables.decision import Guard
from trainables.guards import Ceiling, Floor, guard_of
from trainables.hypothesis_tests import binomial_test, sequential_test
from trainables.io.files import read_json
from trainables.metrics import METRICS
from trainables.probes import PROBES
from trainables.probes.metric import Proportion
from trainables.probes.reserve import RESERVED_METRICS
from trainables.record import Measurement, Record
from trainables.schedule import planned_evals
from trainables.tested_guards import MARGIN, RUN_ERROR, OnRows, Reading
from trainables.typed import typed

LEAST_BASELINE = 0.5  # share of rows that a base must get right before a fall can be seen
MOST_ROWS = 1000
KINDS = {metric.name: probe.kind for probe in PROBES if probe.kind for metric in probe.metrics}


@dataclass(frozen=True)
class WeakProbe:
    """A probe that says little: its metric, what is wrong, and what to do."""

    metric: str
    message: str
    hint: str

    def __str__(self) -> str:
        """Return the warning in one sentence, with its hint."""
        return f"{self.message} ({self.hint})"


def weak_probes(
    guards: Sequence[Guard], reading: Reading, baseline: Mapping[str, Proportion], evals: int
) -> list[WeakProbe]:
    """Return the probes that tell little or nothing of trials with so many evals, from what the base got right."""
    low = [_low(name, baseline[name]) for name in KINDS if name in baseline and _is_low(name, baseline[name])]
    silent = [
        _silent(guard, baseline[guard.metric], evals)
        for guard in guards
        if isinstance(guard, Floor | Ceiling)
        and guard.metric in baseline
        and not can_stop(guard, reading, baseline[guard.metric], evals)
    ]
    return [*low, *silent]


def weak_probes_of(records: Sequence[Record]) -> list[WeakProbe]:
    """Return the weak probes of an experiment whose baselines are measured, by the guards of its `study.json`.

    Raises:
        FileDamaged: a record or `study.json` is damaged.
    """
    specs = [record.spec() for record in records]
    trained = [one for one in specs if not one.placement.is_baseline]
    study = records[0].home.resolve().parent.parent / "study.json" if records else None
    if not trained or study is None or not study.is_file():
        return []
    begun = read_json(study)
    guards = [guard for guard in map(guard_of, begun["guards"]) if guard is not None]
    reading: Reading = "tested" if "guard_test" in begun else "exact"
    evals = max(planned_evals(one.steps, one.eval_every_steps, one.init_from is not None) for one in trained)
    alone = [record for record, spec in zip(records, specs, strict=True) if spec.placement.is_baseline]
    found = [
        one
        for record in alone
        if (measured := record.evals())
        for one in weak_probes(guards, reading, _asked(measured[-1]), evals)
    ]
    return list(dict.fromkeys(found))


def _asked(baseline: Measurement) -> dict[str, Proportion]:
    """Return the counts of a baseline, with those of the reserve, which it has asked whole."""
    counts = dict(baseline.counts)
    for name, more in baseline.reserve.items():
        own = counts[name]
        counts[name] = Proportion(own.successes + round(sum(more.values.values())), own.rows + len(more.values))
    return counts


def good_share(metric: str, found: Proportion) -> float:
    """Return the share of rows that are as they should be."""
    return found.rate if METRICS[metric].direction == "higher" else 1.0 - found.rate


def can_stop(rule: Floor | Ceiling, reading: Reading, baseline: Proportion, evals: int) -> bool:
    """Return True if a guard can stop an arm at all: one that gets every row wrong, at every eval."""
    if evals < rule.evals_needed:
        return False
    is_floor, rows = isinstance(rule, Floor), baseline.rows
    limit, worst = rule.limit(OnRows({rule.metric: baseline.rate}), ()), 0 if is_floor else rows
    if reading == "exact":
        return limit > ROUNDING if is_floor else limit < 1.0 - ROUNDING
    if rule.metric in RESERVED_METRICS:
        side = sequential_test(worst, rows, limit, MARGIN, RUN_ERROR / evals)
    else:
        side = binomial_test(worst, rows, limit, RUN_ERROR / evals)
    return side == ("below" if is_floor else "above")


def rows_to_stop(rule: Floor | Ceiling, reading: Reading, rate: float, evals: int) -> int | None:
    """Return the least rows with which a guard can stop an arm, at a baseline of this rate; None if no number does."""
    for rows in range(1, MOST_ROWS + 1):
        if can_stop(rule, reading, Proportion(round(rate * rows), rows), evals):
            return rows
    return None


def _is_low(metric: str, found: Proportion) -> bool:
    return good_share(metric, found) < LEAST_BASELINE


def _low(metric: str, found: Proportion) -> WeakProbe:
    right = round(good_share(metric, found) * found.rows)
    return WeakProbe(
        metric,
        f"the base alone is right on {right} of {found.rows} rows of {metric}: what it cannot do, no arm can lose",
        _hint(KINDS[metric]),
    )


def _silent(rule: Floor | Ceiling, baseline: Proportion, evals: int) -> WeakProbe:
    worst = "none" if isinstance(rule, Floor) else "all"
    return WeakProbe(
        rule.metric,
        f"the guard on {rule.metric} can stop no arm: with {baseline.successes} of {baseline.rows} in the baseline "
        f"and {evals} evals, even {worst} is not beyond its limit",
        _more_rows(rule, baseline, evals),
    )


def _more_rows(rule: Floor | Ceiling, baseline: Proportion, evals: int) -> str:
    if evals < rule.evals_needed:
        return "evaluate more often, with --eval-every"
    least = rows_to_stop(rule, "tested", baseline.rate, evals)
    if least is None or least <= baseline.rows:
        return _hint(KINDS.get(rule.metric, ""))
    return f"give {least} rows or more"


def _hint(kind: str) -> str:
    if kind == "text":
        answer = typed("data", "answer", "--base", "DIR", "--ood", "questions.jsonl", "--out", "ood.jsonl")
        return f"`accept` other right answers, or write the base's own with `{answer}`"
    return f"look at its answers, and give {kind or 'other'} rows that the base gets right"
