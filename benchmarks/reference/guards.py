"""The rules of guards, and the guards of each study with their values."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from benchmarks.reference.tables import code, page, table
from sweeps.cli.studies import line_of_study
from sweeps.execution.submission import studies
from sweeps.study import Study
from trainables.guards import RULES
from trainables.tested_guards import error_values

INTRODUCTION = """
After each eval a guard compares a metric with the baseline, or with the trial's own evals, and stops a trial that has
lost generality. How often guards err is simulated in [guards and their errors](../guards.md); [adding
one](../adding.md#a-guard) takes one file. In a file of `--config` a guard is a mapping with its `rule` and the values
below.
"""
TESTED = """
With `--guards tested`, the default, a test decides whether a limit is broken; its error over a whole run is at most
`run_error`, and the sequential test tells apart rates that lie `margin` on either side of the limit. With `--guards
exact` the numbers decide as they are.
"""
CONSTRAINT = """
The best checkpoint is the one with the lowest eval loss among those that keep, in absolute points of the baseline:
"""


def guards_page() -> str:
    """Return the page of rules, guards and constraints."""
    rules = [part for name, rule in RULES.items() for part in _rule(name, rule)]
    own = {name: line_of_study(name).study for name in sorted(studies())}
    values = table(("value", "default"), [(code(name), code(one)) for name, one in error_values().items()])
    return page(
        "Guards", INTRODUCTION, "## Rules", *rules, "## How they decide", TESTED, values,
        "## Guards of the studies", _guards(own), "## What the best checkpoint keeps", CONSTRAINT, _constraints(own),
    )  # fmt: skip


def _rule(name: str, rule: type) -> list[str]:
    return [
        f"### {name}",
        inspect.getdoc(rule) or "",
        ", ".join(f"{code(one.name)} ({one.type})" for one in fields(rule)),
    ]


def _guards(own: Mapping[str, Study]) -> str:
    found: dict[tuple[str, str, str], list[str]] = {}
    for name, study in own.items():
        for guard in study.guards:
            values = {key: value for key, value in asdict(guard).items() if key != "metric"}
            found.setdefault((type(guard).__name__, guard.metric, _values(values)), []).append(name)
    rows = [(code(metric), rule, values, _named(names, own)) for (rule, metric, values), names in found.items()]
    return table(("metric", "rule", "values", "studies"), rows)


def _constraints(own: Mapping[str, Study]) -> str:
    found: dict[str, list[str]] = {}
    for name, study in own.items():
        found.setdefault(_values(asdict(study.constraint)), []).append(name)
    return table(("constraint", "studies"), [(values, _named(names, own)) for values, names in found.items()])


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(code(f"{name} = {value}") for name, value in values.items())


def _named(names: list[str], own: Mapping[str, Study]) -> str:
    return "all" if len(names) == len(own) else ", ".join(names)
