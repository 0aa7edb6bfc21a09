"""Finalists, the candidates that more rows can make the pick: their results on all irrelevant rows.

An eval asks the core of these rows only. Guards ask more until they decide, but such rates are biased, so they are not
used. `sweeps.finalists` asks a candidate all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from analysis.candidates import Candidate
from analysis.decision.judged import Judged
from trainables.probes.metric import RowResults
from trainables.probes.reserve import exchanged, joined, reserved


def paired(candidates: Iterable[Candidate], baseline: Candidate | None) -> list[tuple[Candidate, Candidate | None]]:
    """Return each candidate with the baseline, both on the rows that every seed of the candidate was asked.

    They are all rows if every seed was asked all, otherwise the core.
    """
    if baseline is None:
        return [(one, None) for one in candidates]
    core = baseline.evals[0].measured
    whole = joined(reserved(core.rows), core.reserve)
    on_all_rows = _with_rows(baseline, [whole] * len(baseline.evals)) if core.reserve else None
    return [
        (one, on_all_rows)
        if on_all_rows and all(_covers(each.rows, whole) for each in one.evals)
        else (_with_rows(one, [_only(each.rows, core.rows) for each in one.evals]), baseline)
        for one in candidates
    ]


def not_asked(found: Iterable[Judged]) -> tuple[Candidate, ...]:
    """Return the candidates that have not been asked all irrelevant rows, though their baseline has."""
    return tuple(one.candidate for one in found if one.contender.baseline and _misses_rows(one))


def _misses_rows(one: Judged) -> bool:
    baseline = one.contender.baseline
    assert baseline is not None
    core = baseline.evals[0].measured
    return bool(core.reserve) and not all(_covers(each.rows, core.reserve) for each in one.candidate.evals)


def _covers(rows: Mapping[str, RowResults], wanted: Mapping[str, RowResults]) -> bool:
    return all(name in rows and rows[name].values.keys() >= one.values.keys() for name, one in wanted.items())


def _only(rows: Mapping[str, RowResults], core: Mapping[str, RowResults]) -> dict[str, RowResults]:
    kept = {
        name: RowResults({row: value for row, value in one.values.items() if row in core[name].values}, one.weights)
        for name, one in reserved(rows).items()
        if name in core
    }
    return exchanged(rows, kept)


def _with_rows(candidate: Candidate, rows: Sequence[Mapping[str, RowResults]]) -> Candidate:
    evals = [
        replace(one, measured=replace(one.measured, rows=exchanged(one.rows, more)))
        for one, more in zip(candidate.evals, rows, strict=True)
    ]
    return replace(candidate, evals=tuple(evals))
