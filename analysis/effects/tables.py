"""Writes effects and answers as text for a terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from analysis.compare.difference import Difference
from analysis.effects.hypotheses import STATEMENTS, Effect, Judgement
from analysis.effects.means import PlacementMeans
from analysis.effects.report import EffectsReport
from trainables.folded import Folded

if TYPE_CHECKING:
    from rich.console import Console


EFFECTS: Sequence[str] = ("metric", "factor, per", "effect", "95 %", "p rows", "importance")
ANSWERS: Sequence[str] = ("", "metric", "answer", "contrast", "effect", "95 %")


def print_report(report: EffectsReport, console: Console) -> None:
    """Print the effects, the answers with what would decide them, and what is not known."""
    from rich.markup import escape

    console.print(escape(_title(report)), highlight=False)
    console.print()
    console.print(Folded(_table(EFFECTS, effect_rows(report))))
    for one in report.means:
        console.print(f"\n{escape(one.metric)} at each placement\n[dim]{escape(one.where)}[/]", highlight=False)
        console.print(Folded(_table(*mean_rows(one))))
    for hypothesis, statement in STATEMENTS.items():
        console.print(f"\n[bold]{hypothesis}[/] {statement}", highlight=False)
        for line in _sentences([one for one in report.answers if one.hypothesis == hypothesis]):
            console.print(escape(line), highlight=False)
    if report.unknown:
        console.print("\n" + escape("\n".join(report.unknown)), highlight=False)
    if report.commands:
        console.print("\nTrials that left a stable and a lost parent go on with, then give each --continuations:")
        for one in report.commands:
            console.print(f"    {escape(one)}", soft_wrap=True, highlight=False)


def as_markdown(report: EffectsReport) -> str:
    """Write the effects and the answers as Markdown."""
    from analysis.templates import prose

    parts = [prose(_title(report))]
    answers = [row[:-1] for row in answer_rows(report)]  # what would decide it is a list below
    parts += [_markdown_table(EFFECTS, effect_rows(report)), _markdown_table(ANSWERS, answers)]
    for one in report.means:
        parts += [f"`{one.metric}` at each placement, {prose(one.where)}:", _markdown_table(*mean_rows(one))]
    decides = [
        f"- {one.hypothesis} {one.part}: what would decide it: {one.what_decides}."
        for one in report.answers
        if one.what_decides
    ]
    notes = [f"- {prose(line)}" for line in report.unknown]
    commands = ["Trials that left a stable and a lost parent go on with:", *(f"    {one}" for one in report.commands)]
    lists = ("\n".join(decides), "\n".join(notes), "\n\n".join(commands) if report.commands else "")
    return "\n\n".join([*parts, *filter(None, lists)]) + "\n"


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from analysis.templates import cell

    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def mean_rows(one: PlacementMeans) -> tuple[list[str], list[list[str]]]:
    """Return a header and rows of text: the language layers, and the mean at each number of vision blocks."""
    header = ["language layers", *(f"vision {blocks}" for blocks in one.vision)]
    rows = [
        [str(layers), *("" if mean is None else f"{mean:.2f}" for mean in means)]
        for layers, means in zip(one.language, one.means, strict=True)
    ]
    return header, rows


def effect_rows(report: EffectsReport) -> list[tuple[str, ...]]:
    """Return a row of text for each effect, with the columns `EFFECTS`."""
    return [tuple(_effect_cells(one, report)) for one in report.effects]


def answer_rows(report: EffectsReport) -> list[tuple[str, ...]]:
    """Return a row of text for each part of a hypothesis, with the columns `ANSWERS`, and what would decide it."""
    return [
        (one.hypothesis, one.part, one.outcome, one.contrast, *_numbers(one.found), one.what_decides)
        for one in report.answers
    ]


def as_json(report: EffectsReport) -> str:
    """Write the effects and the answers as JSON; what is not known is null."""
    body = {
        "experiment": report.experiment,
        "trials": report.trials,
        "seeds": report.seeds,
        "factors": report.factors,
        "effects": [
            {"metric": one.metric, "factor": one.factor, "per": one.unit, **_values(one.found)}
            for one in report.effects
        ],
        "importances": report.importances,
        "answers": [
            {**{key: value for key, value in asdict(one).items() if key != "found"}, "statement": one.statement,
             **_values(one.found)}
            for one in report.answers
        ],
        "means": [asdict(one) for one in report.means],
        "unknown": report.unknown,
        "commands": report.commands,
    }  # fmt: skip
    return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _title(report: EffectsReport) -> str:
    return f"{report.experiment}: {report.trials} trials, {report.seeds} seeds; {'; '.join(report.factors)}"


def _effect_cells(one: Effect, report: EffectsReport) -> list[str]:
    importance = report.importances.get(one.metric, {}).get(one.factor)
    p = "" if math.isnan(one.found.p) else "<.001" if one.found.p < 0.001 else f"{one.found.p:.3f}".removeprefix("0")
    share = "" if importance is None else f"{importance:.0%}"
    return [one.metric, f"{one.factor}, {one.unit}", *_numbers(one.found), p, share]


def _sentences(answers: Sequence[Judgement]) -> list[str]:
    """Return the answers of one hypothesis as paragraphs; those that ask for the same trials are one."""
    asking = [one for one in answers if one.found is None]
    lines = [_sentence(one.part, one) for one in answers if one.found is not None]
    for needed in dict.fromkeys(one.what_decides for one in asking):
        alike = [one for one in asking if one.what_decides == needed]
        lines.append(_sentence(", ".join(one.part for one in alike), alike[0]))
    return lines


def _sentence(part: str, one: Judgement) -> str:
    effect, interval = _numbers(one.found)
    numbers = f": {effect} [{interval}]" if one.found else ""
    decides = f". What would decide it: {one.what_decides}" if one.what_decides else ""
    return f"  {part}: {one.outcome}; {one.contrast}{numbers}{decides}."


def _numbers(found: Difference | None) -> list[str]:
    if found is None:
        return ["", ""]
    interval = f"{found.low:+.3f} {found.high:+.3f}" if math.isfinite(found.low) else "?"
    return [f"{found.mean:+.3f}", interval]


def _values(found: Difference | None) -> dict[str, Any]:
    names = ("low", "high", "p", "rows", "rows_half", "seeds_half")
    values = {"effect": found.mean if found else None} | {name: getattr(found, name, None) for name in names}
    return {key: value if value is not None and math.isfinite(value) else None for key, value in values.items()}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, title in enumerate(header):
        table.add_column(title, justify="left" if number < 2 else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    return table
