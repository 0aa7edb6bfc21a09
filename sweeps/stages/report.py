"""The closing report of a staged study: how each stage's loss continues its parent's, and what was forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeps.stages.staged_study import StagedStudy
from trainables.checkpoints.lineage import lineage_in, parent_eval
from trainables.folded import Folded
from trainables.probes.earlier_stages import accuracy_name, exact_name, loss_name
from trainables.record import Record
from trainables.spec import TrialSpec

LONGEST_NAME, LONGEST_PLACE = 12, 36  # characters, so that the table fits 80 columns


@dataclass(frozen=True)
class StageRow:
    """The results of one stage; losses are in nats per token, None without a parent or when its loss is unknown."""

    spec: TrialSpec
    parents_last: float | None
    first: float | None
    evals: Sequence[Mapping[str, float]]
    verdict: str
    lineage: Mapping[str, Any] | None

    @property
    def last(self) -> Mapping[str, float]:
        """Return the last eval, empty when the stage has none."""
        return self.evals[-1] if self.evals else {}

    def after(self, stage: int, own: int) -> tuple[float, float] | None:
        """Return token accuracy and exact match on the rows of stage `stage`, at the end of this stage, `own`."""
        names = (accuracy_name(stage), exact_name(stage)) if stage < own else ("token_accuracy", "exact_match")
        return (self.last[names[0]], self.last[names[1]]) if names[0] in self.last and stage <= own else None


def stage_rows(records: Sequence[Record]) -> list[StageRow]:
    """Return a row for each stage among the records, baselines excluded, in order."""
    return [_row(record) for record in records if not record.spec().placement.is_baseline]


def _row(record: Record) -> StageRow:
    spec, evals, verdict = record.spec(), record.evals(), record.verdict()
    parent = parent_eval(spec)
    first = None
    if parent is not None and evals and evals[0].step == 0:
        first = evals[0].metrics[loss_name(parent.stage) if parent.stage else "eval_loss"]
    return StageRow(
        spec=spec,
        parents_last=parent.loss if parent else None,
        first=first,
        evals=[one.metrics for one in evals],
        verdict=str(verdict) if verdict else "stopped",
        lineage=lineage_in(record),
    )


def stage_summary(staged: StagedStudy, records: Sequence[Record]) -> Group:
    """Show every stage, its accuracy on earlier stages' rows, and the last stage that can be continued."""
    rows = stage_rows(records)
    parts: list[Folded | Text] = [Folded(_stages(rows))]
    if any(row.lineage for row in rows):
        parts += [Text(), Folded(_lineage(rows))]
    if any(row.spec.earlier for row in rows):
        parts += [Text("\ntoken accuracy (exact match) on each stage's validation rows:"), Folded(_remembered(rows))]
    parts.append(Text(f"\n{outcome_text(staged, records)}"))
    return Group(*parts)


def outcome_text(staged: StagedStudy, records: Sequence[Record]) -> str:
    """Return how many stages completed, and the directory of the adapter that a later study can continue."""
    arms = [record for record in records if not record.spec().placement.is_baseline]
    good = [record for record in arms if staged.can_continue(record)]
    if not good:
        return "No stage completed with a usable adapter; there is none to continue."
    last = good[-1]
    name = last.spec().name
    has_best = staged.continuation == "extended" or last.best() is not None
    place = last.directory / "best" if has_best else last.checkpoint(last.spec().steps)
    if len(good) == len(staged.stages):
        return f"All {len(good)} stages completed. Adapter of the last stage, {name}: {place}"
    verdict = arms[-1].verdict()
    why = f"{verdict}: {verdict.reason}" if verdict and verdict.reason else str(verdict or "stopped")
    if verdict and verdict.kind == "completed":
        why = "none of its evals meets the constraint"
    return f"Stage {arms[-1].spec().name} cannot be continued ({why}). The last stage that can is {name}: {place}"


def _stages(rows: Sequence[StageRow]) -> Table:
    table = _table(("stage", "place"), ("rate", "parent's", "first", "last", "exact"), ("verdict",))
    for row in rows:
        table.add_row(
            row.spec.name,
            str(row.spec.placement),
            f"{row.spec.learning_rate:.2g}",
            _number(row.parents_last),
            _first(row),
            _number(row.last.get("eval_loss")),
            _number(row.last.get("exact_match"), "{:.2f}"),
            Text(row.verdict),
        )
    return table


def _lineage(rows: Sequence[StageRow]) -> Table:
    """Show the adapter that each stage starts from: its hash, and the peak language rates of parent and stage."""
    table = _table(("stage", "starts from", "sha256"), ("its rate", "own rate"), ())
    for row in rows:
        if not row.lineage:
            continue
        parent = row.lineage["ancestors"][0]
        place, rate = parent["directory"], "unknown"
        if "trial" in parent:
            place = f"{parent['trial']}-{parent['trial_id']} step {parent['step']}"
            rate = f"{parent['learning_rate']:.2g}"
        table.add_row(
            _shortened(row.spec.name, LONGEST_NAME),
            Text(_shortened(place, LONGEST_PLACE)),  # rich would interpret brackets of a plain string as markup
            parent["sha256"][:12],
            rate,
            f"{row.spec.learning_rate:.2g}",
        )
    return table


def _shortened(text: str, length: int) -> str:
    """Cut the start of a text that is too long: paths and names of trials differ at their ends."""
    return text if len(text) <= length else f"…{text[1 - length :]}"


def _remembered(rows: Sequence[StageRow]) -> Table:
    table = _table(("after",), tuple(row.spec.name for row in rows), ())
    for own, row in enumerate(rows, start=1):
        cells = [row.after(stage, own) for stage in range(1, len(rows) + 1)]
        table.add_row(row.spec.name, *("-" if one is None else f"{one[0]:.2f} ({one[1]:.2f})" for one in cells))
    return table


def _first(row: StageRow) -> str:
    if row.first is None or row.parents_last is None:
        return "-"
    return f"{row.first:.3f} ({row.first / row.parents_last - 1:+.0%})"


def _number(value: float | None, form: str = "{:.3f}") -> str:
    return "-" if value is None else form.format(value)


def _table(left: Sequence[str], right: Sequence[str], shrinking: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    for name in shrinking:
        table.add_column(name)
    return table
