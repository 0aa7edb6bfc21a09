"""Writes the page of a run on a device from its figures; nothing here measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis import templates

Values = Mapping[str, Any]


def page(results: Values) -> str:
    """Return the page: the device, then every section with its status, its notes and its tables."""
    text = templates.markdown(
        "benchmarks", "gpu.md", results=results, sections=list(results["sections"].values()), table=table
    )
    return text.rstrip() + "\n"


def table(values: Values) -> list[str]:
    """Return the lines of a table."""
    lines = [_line(values["header"]), _line(["---"] * len(values["header"]))]
    return lines + [_line([shown(one) for one in row]) for row in values["rows"]]


def shown(value: object) -> str:
    """Return a value as a cell: numbers with three digits, small ones as powers of ten."""
    if not isinstance(value, float):
        return templates.cell("-" if value is None else f"{value:,}" if isinstance(value, int) else value)
    if value == 0:
        return "0"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
