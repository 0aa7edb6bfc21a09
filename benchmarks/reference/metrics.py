"""Every metric, by the probe that measures it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable

from benchmarks.reference.tables import code, page, table
from trainables.metrics import AVERAGE_METRICS, GENERALITY, PRICES, TRAINING_METRICS
from trainables.probes import PROBES, earlier_stages, shift
from trainables.probes.metric import Metric
from trainables.probes.probe import Probe

INTRODUCTION = f"""
A record, MLflow, `footprint pareto` and guards share these names. "Better" is the direction that a frontier takes;
`--objective NAME:higher` or `NAME:lower` replaces it. The metric of generality is {code(GENERALITY[0])}, and
{code(GENERALITY[1])} on a base without a vision tower. Rows are those of the validation file and the `ood.jsonl`; see
[out-of-distribution rows](../out-of-distribution.md).
"""
SUITES = """
Tasks of lm-eval and lmms-eval bring metrics of their own, such as `lm-eval.TASK.acc`, whose direction and rows stand
in the record; see [suites](../suites.md).
"""
HEADER = ("metric", "better", "unit", "what is measured")


def metrics_page() -> str:
    """Return the page of all metrics."""
    parts = [part for probe in PROBES for part in _of_probe(probe)]
    training = f"Prices, which do not depend on the checkpoint: {', '.join(map(code, PRICES))}."
    return page(
        "Metrics", INTRODUCTION, *parts,
        "## Earlier stages", _first_sentence(earlier_stages.__doc__), _table(earlier_stages.METRICS),
        "## Shift (`--probes shift`)", _first_sentence(shift.__doc__), _table(shift.METRICS),
        "## Training and cost", training, _table(TRAINING_METRICS),
        "## Averages of adapters", "Reported by `footprint rescale` alone.", _table(AVERAGE_METRICS),
        "## Suites", SUITES,
    )  # fmt: skip


def _of_probe(probe: Probe) -> list[str]:
    module = sys.modules[probe.score.__module__]
    kind = f" It is left out where no row has the kind {code(probe.kind)}." if probe.kind else ""
    return [f"## {probe.name.replace('_', ' ').capitalize()}", _first_sentence(module.__doc__) + kind,
            _table(probe.metrics)]  # fmt: skip


def _first_sentence(docstring: str | None) -> str:
    return inspect.cleandoc(docstring or "").split("\n\n")[0]


def _table(metrics: Iterable[Metric]) -> str:
    return table(HEADER, [(code(one.name), one.direction, one.unit, one.counts) for one in metrics])
