"""What lm-eval found as scores: by row, with direction, unit, number of rows and standard error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from trainables.errors import UserError
from trainables.probes.metric import Declared, RowResults, Scores, scores

SUITE = "lm-eval"
NO_FILTER = "none"
ROUNDING = 1e-9
UNITS = {"perplexity": "perplexity", "word_perplexity": "perplexity", "byte_perplexity": "perplexity",
         "bits_per_byte": "bits/byte", "bleu": "BLEU points", "chrf": "chrF points", "ter": "TER points"}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """One metric of one task: its name in records, in lm-eval, and its filter of the answers."""

    task: str
    metric: str
    filter: str

    @property
    def name(self) -> str:
        """Return the name in records."""
        return "/".join((SUITE, self.task, self.metric, *([] if self.filter == NO_FILTER else [self.filter])))


def suite_scores(results: Mapping[str, Any]) -> Scores:
    """Return lm-eval's results as scores.

    Raises:
        UserError: a metric has no direction.
    """
    values: dict[str, float | RowResults] = {}
    declared: dict[str, Declared] = {}
    for found, value in _metrics(results):
        rows = _rows(results["samples"][found.task], found)
        by_row = _as_results(rows, value)
        values[found.name] = value if by_row is None else by_row
        declared[found.name] = _declared(results, found, rows)
    return Scores(**{**vars(scores(values)), "declared": declared})


def _metrics(results: Mapping[str, Any]) -> Iterator[tuple[Found, float]]:
    for task, found in results["results"].items():
        for key, value in found.items():
            metric, comma, chosen = key.partition(",")
            if comma and not metric.endswith("_stderr") and isinstance(value, Real):
                yield Found(task, metric, chosen), float(value)


def _rows(samples: Sequence[Mapping[str, Any]], found: Found) -> dict[str, Any]:
    asked = [one for one in samples if one["filter"] == found.filter and found.metric in one["metrics"]]
    return {str(one["doc_id"]): one[found.metric] for one in asked}


def _as_results(rows: Mapping[str, Any], value: float) -> RowResults | None:
    """Return the results by row if the metric is their mean."""
    if not rows or not all(isinstance(one, Real) for one in rows.values()):
        return None
    numbers = {row: float(one) for row, one in rows.items()}
    if abs(sum(numbers.values()) / len(numbers) - value) > ROUNDING * max(1.0, abs(value)):
        return None
    is_proportion = all(one in (0.0, 1.0) for one in numbers.values())
    return RowResults(numbers, {} if is_proportion else dict.fromkeys(numbers, 1.0))


def _declared(results: Mapping[str, Any], found: Found, rows: Mapping[str, Any]) -> Declared:
    higher = results["higher_is_better"].get(found.task, {}).get(found.metric)
    if higher is None:
        raise UserError(
            f"a metric must have a direction, but `{found.metric}` of task `{found.task}` has no `higher_is_better`",
            "add it to `metric_list` in the YAML file of the task",
        )
    error = results["results"][found.task].get(f"{found.metric}_stderr,{found.filter}")
    return Declared(
        direction="higher" if higher else "lower",
        unit=UNITS.get(found.metric, _unit(rows)),
        counts=f"{found.metric} of lm-eval's task {found.task}",
        rows=len(rows),
        error=float(error) if isinstance(error, Real) else None,
    )


def _unit(rows: Mapping[str, Any]) -> str:
    flat = [part for one in rows.values() for part in (one if isinstance(one, list | tuple) else [one])]
    is_fraction = all(isinstance(one, Real) and 0 <= float(one) <= 1 for one in flat)
    return "fraction" if is_fraction else "as in the suite"
