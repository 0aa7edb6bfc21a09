"""Writes the frontier as a table for a terminal, and as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from analysis.attained import fit_beyond
from analysis.decision.judged import Judged
from analysis.frontier import FrontierInfo, PlacementResult, Volume
from analysis.probabilities import percent
from analysis.report.conclusions import (
    conclusion,
    criteria_text,
    footnotes,
    marked_label,
    recommended,
    unknowns,
    values_of,
)
from analysis.report.winners_json import pick_in_json
from analysis.uncertainty import LEVEL
from trainables.folded import Folded

if TYPE_CHECKING:
    from rich.console import Console


REACH_LEVELS = 9
MARKS = {
    "frontier": "● frontier",
    "baseline": "★ baseline",
    "dominated": "○ dominated",
    "gain outside the constraint": "△ outside",
    "no gain": "– no gain",
    "excluded": "✕ not admissible",
    "running": "… running",
}


def text_table(info: FrontierInfo) -> tuple[list[str], list[list[str]]]:
    """Return the header and one row of text per placement, in the order of the results.

    Results that were not made here have no candidates, so their table has no such column.
    """
    header = ["placement", "standing", "candidate", *(one.name for one in reversed(info.objectives[:2]))]
    header += [one.name for one in info.objectives[2:]] + ["seeds", "P(frontier)", "parameters", "criteria", "why"]
    rows = [_text_row(result, info) for result in info.results]
    at = header.index("candidate")
    if not any(row[at] for row in rows):
        return header[:at] + header[at + 1 :], [row[:at] + row[at + 1 :] for row in rows]
    return header, rows


def print_report(info: FrontierInfo, console: Console) -> None:
    """Print the frontier, then every other placement with its reason, then the conclusion and the unknowns."""
    from rich.markup import escape
    from rich.table import Table

    x, y = info.objectives[:2]
    console.print(f"[bold]{escape(info.experiment)}[/]: {y.name} ({y.direction}) against {x.name} ({x.direction})\n")
    header, rows = text_table(info)
    pairs = list(zip(info.results, rows, strict=True))
    shown = [at for at in range(2, len(header) - 1) if any(row[at] for row in rows)]
    frontier = Table(header[0], *(header[at] for at in shown), box=None, pad_edge=False, header_style="dim")
    for column in frontier.columns:
        # an interval in two lines cannot be read; success criteria of several seeds may be long
        column.no_wrap = column.header != "criteria"
    for result, row in pairs:
        if result.on_frontier or result.kind == "baseline":
            style = "bold" if result.kind == "frontier" else ""
            cells = [f"{row[1][0]} {row[0]}", *(row[at] for at in shown)]
            frontier.add_row(*(escape(cell) for cell in cells), style=style)
    console.print(Folded(frontier))
    others = Table("not on the frontier", "why", box=None, pad_edge=False, header_style="dim")
    for result, row in pairs:
        if not result.on_frontier:
            others.add_row(escape(f"{row[1][0]} {row[0]}"), escape(row[-1]))
    if others.row_count:
        console.print()
        console.print(Folded(others))
    if notes := footnotes(info):
        console.print("\n" + escape("\n".join(notes)), highlight=False)
    _print_paragraphs(info, console)


def as_markdown(info: FrontierInfo) -> str:
    """Write the table and the conclusion as Markdown."""
    header, rows = text_table(info)
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (header, ["---"] * len(header), *rows)]
    table = "\n".join(f"| {line} |" for line in lines)
    notes = "\n".join(f"- {note}" for note in unknowns(info))
    marks = "".join(f"\n\n{note}" for note in footnotes(info))
    return f"{table}{marks}\n\n{' '.join(conclusion(info))}\n\nWhat is not known:\n\n{notes}\n"


def as_csv(info: FrontierInfo) -> str:
    """Write one row per placement; an unknown number is an empty cell."""
    rows = [_flat(result, info) for result in info.results]
    # trials that failed early may lack parameters
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(info: FrontierInfo) -> str:
    """Write all results with the trials of each placement; an unknown number is null."""
    pick = recommended(info)
    body = {
        "experiment": info.experiment,
        "objectives": [asdict(objective) for objective in info.objectives],
        "recommended": pick.placement.label if pick else None,
        "pick": pick_in_json(info.choice),
        "holdout": asdict(info.holdout) if info.holdout else None,
        "placements": [_nested(result, info) for result in info.results],
        "hypervolume": asdict(info.volume) if info.volume else None,
        "attainment": [asdict(one) for one in info.attained.surfaces] if info.attained else None,
        "guard_floor": info.floor,
        "interval_level": LEVEL,
        "footnotes": footnotes(info),
        "conclusion": conclusion(info),
        "unknown": unknowns(info),
    }
    return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def reach_rows(info: FrontierInfo) -> list[list[str]]:
    """Return rows of text: a level of the first objective, and the fit beyond it on each surface, surest first."""
    if info.attained is None or len(info.objectives) > 2:
        return []
    ends = [x for one in info.attained.surfaces for x, _ in one.points]
    levels = (
        [min(ends) + (max(ends) - min(ends)) * at / (REACH_LEVELS - 1) for at in range(REACH_LEVELS)] if ends else []
    )
    rows = [[fit_beyond(one, level, info.objectives) for one in info.attained.surfaces] for level in levels]
    return [[f"{level:.3f}", *("none" if fit is None else f"{fit:.3f}" for fit in row)]
            for level, row in zip(levels, rows, strict=True)]  # fmt: skip


def _print_paragraphs(info: FrontierInfo, console: Console) -> None:
    from rich.markup import escape

    console.print()
    console.print(escape(" ".join(conclusion(info))), highlight=False)
    if info.volume is not None:
        reference = ", ".join(
            f"{one.name} {value:.3g}" for one, value in zip(info.objectives, info.volume.reference, strict=True)
        )
        console.print(f"Hypervolume {_volumes(info.volume)} (from {reference}).", highlight=False)
    notes = unknowns(info)
    if notes:
        console.print("\n[dim]What is not known:[/]")
        for note in notes:
            console.print(escape(f"- {note}"), highlight=False, style="dim")


def _volumes(volume: Volume) -> str:
    drawn = "" if volume.low is None else f" (95 % of draws of rows and seeds: {volume.low:.3g} to {volume.high:.3g})"
    alone = "" if volume.baseline is None else f", of the baseline alone {volume.baseline:.3g}"
    return f"{volume.frontier:.3g}{drawn}{alone}"


def _text_row(result: PlacementResult, info: FrontierInfo) -> list[str]:
    values = values_of(result, info)
    parameters = result.placement.last_mean("adapter_parameters")
    reason = [result.reason]
    if result.not_separable_from:
        reason.append(f"not separable from {', '.join(result.not_separable_from)}")
    if result.probability and not result.on_frontier:
        drawn = "draws of rows and seeds" if result.candidate else "resampled seeds"
        reason.append(f"on the frontier in {percent(result.probability)} of {drawn}")
    return [
        marked_label(result),
        MARKS[result.kind],
        result.candidate.candidate.at if result.candidate else "",
        *reversed(values[:2]),
        *values[2:],
        "" if result.kind == "baseline" else str(len(result.placement.seed_runs)),
        "" if result.probability is None else percent(result.probability),
        "" if parameters is None else f"{parameters:,.0f}",
        criteria_text(result),
        "; ".join(reason),
    ]


def _flat(result: PlacementResult, info: FrontierInfo) -> dict[str, Any]:
    row: dict[str, Any] = {"placement": result.placement.label, "standing": result.kind}
    row |= {"on_frontier": int(result.on_frontier), "reason": result.reason}
    row["candidate"] = result.candidate.name if result.candidate else None
    row |= result.placement.parameters
    row["seeds"] = len(result.placement.seed_runs)
    for column, objective in enumerate(info.objectives):
        known = asdict(result.estimates[column]) if result.estimates else {}
        for part in ("mean", "minimum", "maximum", "low", "high"):
            row[f"{objective.name}_{part}"] = known.get(part)
    row["gain"] = result.gain
    row["probability_on_frontier"] = result.probability
    row["not_separable_from"] = _joined(result.not_separable_from)
    row["adapter_parameters"] = result.placement.last_mean("adapter_parameters")
    trials = [seed_run.trial for seed_run in result.placement.seed_runs]
    row["criteria"] = criteria_text(result)
    row["degraded"] = _joined(dict.fromkeys(check for trial in trials for check in trial.degraded))
    row["overridden"] = _joined(dict.fromkeys(check for trial in trials for check in trial.overridden))
    row["trial_ids"] = _joined(trial.trial_id for trial in trials)
    return {key: f"{value:.10g}" if isinstance(value, float) else value for key, value in row.items()}


def _nested(result: PlacementResult, info: FrontierInfo) -> dict[str, Any]:
    names = [objective.name for objective in info.objectives]
    seed_runs = result.placement.seed_runs
    return {
        "placement": result.placement.label,
        "standing": result.kind,
        "on_frontier": result.on_frontier,
        "reason": result.reason,
        "candidate": result.candidate.name if result.candidate else None,
        "parameters": dict(result.placement.parameters),
        "estimates": dict(zip(names, map(asdict, result.estimates), strict=False)),
        "gain": result.gain,
        "probability_on_frontier": result.probability,
        "not_separable_from": list(result.not_separable_from),
        "path": [_candidate(one) for one in result.path],
        "adapter_parameters": result.placement.last_mean("adapter_parameters"),
        "trials": [
            {
                "trial_id": seed_run.trial.trial_id,
                "run_id": seed_run.trial.run_id,
                "name": seed_run.trial.name,
                "seed": seed_run.seed,
                "verdict": seed_run.trial.verdict,
                "criteria": seed_run.trial.criteria,
                "degraded": list(seed_run.trial.degraded),
                "overridden": list(seed_run.trial.overridden),
                "reason": seed_run.reason or None,
                "record": seed_run.trial.record,
                "values": {name: _finite(value) for name, value in zip(names, seed_run.values, strict=True)},
            }
            for seed_run in seed_runs
        ],
    }


def _candidate(one: Judged) -> dict[str, Any]:
    return {
        "candidate": one.name,
        "step": one.candidate.step,
        "scale": one.candidate.scale,
        "estimates": {name: asdict(interval) for name, interval in one.estimates.items()},
        "gain": asdict(one.gain) if one.gain else None,
        "probability_admissible": one.admissible,
        "seeds_admissible": one.seeds_admissible,
        "seeds": one.seeds,
        "rows_short": one.rows_short,
        "probability_on_frontier": one.on_frontier,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _joined(parts: Iterable[str]) -> str:
    return " ".join(parts)
