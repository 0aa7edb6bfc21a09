"""Core and reserve: the irrelevant rows that every eval asks, and those that only guards ask, with their results.

Only the core gives metrics: a rate on rows that were asked until a test decided would be biased.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

from trainables.data.ood import OodRow
from trainables.probes import hallucination, irrelevant
from trainables.probes.metric import Proportion, RowResults
from trainables.probes.probe import Evidence, Losses, ProbeData

CORE_ROWS = 48
RESERVED_KIND = "irrelevant"
PROBES = (irrelevant.PROBE, hallucination.PROBE)
RESERVED_METRICS = tuple(one.name for probe in PROBES for one in probe.metrics)
NO_LOSSES = Losses((), (), ())


def split(rows: Sequence[OodRow], core_rows: int = CORE_ROWS) -> tuple[tuple[OodRow, ...], tuple[OodRow, ...]]:
    """Return the rows of every eval, in their order, and the reserve in the order in which guards ask it."""
    reserve = balanced([row for row in rows if row.kind == RESERVED_KIND])[core_rows:]
    reserved = {row.row_id for row in reserve}
    return tuple(row for row in rows if row.row_id not in reserved), tuple(reserve)


def balanced(rows: Sequence[OodRow]) -> list[OodRow]:
    """Return the rows in an order that depends on their ids alone, in which the groups take turns."""
    turns: Counter[str | None] = Counter()
    keys = {}
    for row in sorted(rows, key=lambda one: _shuffled(one.row_id)):
        keys[row.row_id] = turns[row.group], _shuffled(row.row_id)
        turns[row.group] += 1
    return sorted(rows, key=lambda one: keys[one.row_id])


def _shuffled(row_id: str) -> str:
    return sha256(f"reserve/{row_id}".encode()).hexdigest()


def scored(data: ProbeData, rows: Sequence[OodRow], answers: Mapping[str, str]) -> dict[str, RowResults]:
    """Return the results of reserve rows by metric, from the answers by question key."""
    part, evidence = replace(data, ood=tuple(rows)), Evidence(answers, NO_LOSSES, NO_LOSSES)
    scores = {name: value for probe in PROBES for name, value in probe.score(part, evidence).items()}
    return {name: value for name, value in scores.items() if isinstance(value, RowResults)}


def joined(first: Mapping[str, RowResults], more: Mapping[str, RowResults]) -> dict[str, RowResults]:
    """Return the results of both, by metric."""
    names = dict.fromkeys((*first, *more))
    nothing = RowResults({})
    return {name: RowResults({**first.get(name, nothing).values, **more.get(name, nothing).values}) for name in names}


def reserved(rows: Mapping[str, RowResults]) -> dict[str, RowResults]:
    """Return the results of the metrics that have a reserve."""
    return {name: rows[name] for name in RESERVED_METRICS if name in rows}


def exchanged(rows: Mapping[str, RowResults], more: Mapping[str, RowResults]) -> dict[str, RowResults]:
    """Return the results by metric, with those of `more` for the metrics that have a reserve."""
    return {**rows, **{name: one for name, one in reserved(more).items() if name in rows}}


def by_group(rows: Sequence[OodRow], results: Mapping[str, float]) -> dict[str, Proportion]:
    """Return successes and rows of each group, of results (0 or 1) by row id; rows without a group are left out."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.group is not None and row.row_id in results:
            found.setdefault(row.group, []).append(results[row.row_id])
    return {group: Proportion(round(sum(values)), len(values)) for group, values in sorted(found.items())}
