"""Writes a comparison as text for a terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from analysis.compare.answers import AnsweredRow, SideBySide
from analysis.compare.comparison import CandidateComparison, MetricComparison
from analysis.compare.proportions import LEVEL
from trainables.folded import Folded

if TYPE_CHECKING:
    from rich.console import Console


Header = tuple[str, ...]
HEADER: Header = ("metric", "base", "A", "B", "A - B", "95 %", "p", "verdict")
GROUP_HEADER: Header = ("metric by group", "rows", "base", "A", "B", "A - B", "95 %", "p")


def print_comparison(found: CandidateComparison, answers: SideBySide, console: Console) -> None:
    """Print the metrics, what would decide the undecided ones, the groups, and the answers side by side."""
    from rich.markup import escape

    for line in _title(found):
        console.print(escape(line), highlight=False)
    console.print()
    console.print(Folded(_table(HEADER, [_cells(one) for one in found.metrics])))
    console.print("\n" + escape("\n".join(conclusions(found))), highlight=False)
    if found.groups:
        console.print()
        console.print(Folded(_table(GROUP_HEADER, [_group_cells(one) for one in found.groups])))
    console.print("\n" + escape("\n".join(_answer_lines(found, answers))), highlight=False)


def as_markdown(found: CandidateComparison, answers: SideBySide) -> str:
    """Write the comparison as Markdown."""
    from analysis.templates import cell, prose

    tables = [(HEADER, [_cells(one) for one in found.metrics])]
    if found.groups:
        tables.append((GROUP_HEADER, [_group_cells(one) for one in found.groups]))
    parts = ["  \n".join(map(prose, _title(found)))]
    for header, rows in tables:
        lines = [header, ["---"] * len(header), *rows]
        parts.append("\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines))
    parts.append("\n".join(f"- {prose(line)}" for line in conclusions(found)))
    parts += [_answers_in_markdown(answers)] if answers.rows else [prose(answers.missing)] if answers.missing else []
    return "\n\n".join(parts) + "\n"


def as_json(found: CandidateComparison, answers: SideBySide) -> str:
    """Write the comparison as JSON; what is not known is null."""
    body = {
        "a": found.a.candidate.name,
        "b": found.b.candidate.name,
        "fit": found.fit,
        "margin": found.margin,
        "interval_level": LEVEL,
        "metrics": [_as_values(one) for one in found.metrics],
        "groups": [_as_values(one) for one in found.groups],
        "conclusions": conclusions(found),
        "answers": asdict(answers),
    }
    return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def conclusions(found: CandidateComparison) -> list[str]:
    """Return the verdict on the fit, what would decide what is undecided, and what the records do not tell."""
    lines = [_sentence(one, found) for one in found.metrics if one.metric.name == found.fit]
    lines += [_sentence(one, found) for one in found.metrics if one.metric.name != found.fit and one.better]
    lines += [
        f"{one.metric.name} is undecided; what would decide it: {one.what_decides}."
        for one in found.metrics
        if one.metric.name != found.fit and one.what_decides
    ]
    left_out = {one.left_out for one in found.metrics if one.left_out}
    lines += [f"Only the rows that both answered are compared; up to {max(left_out)} are left out."] if left_out else []
    return [*lines, *found.unknown]


def _sentence(one: MetricComparison, found: CandidateComparison) -> str:
    name, count = one.metric.name, f"{one.found.rows} rows"
    if one.better:
        winner, loser = (found.a, found.b) if one.better == "A" else (found.b, found.a)
        by = f"{abs(one.found.mean):.3g}" + (f", within ±{one.margin:g}" if abs(one.found.mean) <= one.margin else "")
        return f"{name}: {winner.candidate.name} is better than {loser.candidate.name}, by {by} ({count})."
    if one.verdict == "equivalent":
        return f"{name}: equivalent within ±{one.margin:g} ({count})."
    return f"{name}: undecided ({count}); what would decide it: {one.what_decides}."


def _title(found: CandidateComparison) -> Iterator[str]:
    for letter, side in (("A", found.a), ("B", found.b)):
        seeds = ", ".join(one.seed for one in side.candidate.evals)
        given = f" (given as {side.given})" if side.given != side.candidate.name else ""
        yield f"{letter} is {side.candidate.name}{given}, seeds {seeds}"


def _cells(one: MetricComparison) -> list[str]:
    verdict = f"{one.better} is better" if one.better else one.verdict
    return [one.metric.name, *_numbers(one), verdict]


def _group_cells(one: MetricComparison) -> list[str]:
    return [f"{one.metric.name} {one.group}", str(one.found.rows), *_numbers(one)]


def _numbers(one: MetricComparison) -> list[str]:
    found = one.found
    interval = f"{found.low:+.2f} {found.high:+.2f}" if math.isfinite(found.low) else "?"
    base = "?" if one.baseline is None else f"{one.baseline:.2f}"
    p = "<.001" if found.p < 0.001 else f"{found.p:.3f}".removeprefix("0")
    return [base, f"{found.a:.2f}", f"{found.b:.2f}", f"{found.mean:+.3f}", interval, p]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, title in enumerate(header):
        is_text = number == 0 or title == "verdict"
        table.add_column(title, justify="left" if is_text else "right", no_wrap=title != "metric")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _as_values(one: MetricComparison) -> dict[str, Any]:
    found = asdict(one.found)
    fixed = dict(zip(("is_fixed_a", "is_fixed_b"), found.pop("is_fixed"), strict=True))
    numbers = {key: value if math.isfinite(value or 0) else None for key, value in found.items()} | fixed
    return {
        "metric": one.metric.name,
        "group": one.group or None,
        "baseline": one.baseline,
        **numbers,
        "difference": one.found.mean,
        "left_out": one.left_out,
        "verdict": one.verdict,
        "better": one.better or None,
        "what_decides": one.what_decides or None,
    }


# ------------------------------------------------------------------- answers
def _answer_lines(found: CandidateComparison, answers: SideBySide) -> Iterator[str]:
    if answers.missing:
        yield f"Answers are not shown: {answers.missing}."
        return
    yield f"Answers on which they differ (seed {answers.seed_a} of A, {answers.seed_b} of B):"
    for one in answers.rows:
        yield ""
        yield f"{_about(one)}, differs in {', '.join(one.metrics)}"
        yield from (f"  {path}" for path in one.row.pictures)
        for name, text in _texts(one):
            yield f"  {name:<9}{text}"


def _answers_in_markdown(answers: SideBySide) -> str:
    from analysis.templates import cell

    lines = ["| row | pictures | expected | baseline | A | B |", "| --- | --- | --- | --- | --- | --- |"]
    for one in answers.rows:
        pictures = " ".join(map(str, one.row.pictures))
        texts = [text for _, text in _texts(one)]
        lines.append("| " + " | ".join(map(cell, (_about(one), pictures, *texts))) + " |")
    return "\n".join(lines)


def _about(one: AnsweredRow) -> str:
    return f"{one.row.row_id} ({', '.join(filter(None, (one.row.kind, one.row.group)))})"


def _texts(one: AnsweredRow) -> list[tuple[str, str]]:
    """Return what each side said on one line; an empty answer is shown as one."""
    said = [("expected", one.expected), ("baseline", one.baseline), ("A", one.a), ("B", one.b)]
    return [(name, "?" if text is None else " ".join(text.split()) or "(empty)") for name, text in said]
