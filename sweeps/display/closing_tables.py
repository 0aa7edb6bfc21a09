"""The closing tables that a study names in `tables`, shown before the summary of a launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeps.study import Study
from trainables.folded import Folded
from trainables.health.criteria import MINIMUM, OPTIMAL, Criterion, minimum, optimal
from trainables.record import Record
from trainables.spec import TrialSpec

Metrics = Mapping[str, float]

SHORT = {
    "loss_drop_nats": "loss drop",
    "eval_improvement_nats": "eval drop",
    "token_accuracy_rise": "tokens",
    "smallest_gradient_norm": "gradient",
    "perplexity": "perplexity",
}


def closing_tables(study: Study, records: Sequence[Record]) -> list[Group]:
    """Return the tables that a study names, from the records of its trials."""
    return [TABLES[name](records) for name in study.tables]


def criteria_table(records: Sequence[Record]) -> Group:
    """Show the success criteria of every trial: values, and whether they meet the minimum and the optimum."""
    table = _table(("trial",), (*SHORT.values(), "minimum", "optimal"))
    for record in records:
        baseline, spec = _baseline_of(record, records), record.spec()
        if spec.placement.is_baseline or baseline is None or not record.evals():
            continue
        measured = record.measurements()
        least, most = minimum(baseline, measured), optimal(baseline, measured)
        values = {one.name: one for one in (*most, *least)}
        is_minimum = all(one.met for one in least)
        cells = [_value(values[name]) for name in SHORT]
        table.add_row(spec.name, *cells, _yes(is_minimum), _yes(is_minimum and all(one.met for one in most)))
    limits = (
        f"minimum: loss drop > {MINIMUM.min_loss_drop_nats:g}, eval drop > {MINIMUM.min_eval_improvement_nats:g} nats, "
        f"tokens > +{100 * MINIMUM.min_token_accuracy_rise:g} points, gradient > {MINIMUM.min_gradient_norm:g}; "
        f"optimal: loss drop > {OPTIMAL.min_loss_drop_nats:g}, perplexity < {OPTIMAL.max_perplexity:g}, and stable"
    )
    return Group(Text("\nsuccess criteria, last eval against the base:"), Folded(table), Text(limits, style="dim"))


def quantization_table(records: Sequence[Record]) -> Group:
    """Compare every arm with itself on other quantizations: memory, time per step, and change of the loss."""
    table = _table(("arm", "quant"), ("base MB", "alone", "loss", "change", "exact", "irrel", "s/step", "ended"))
    arms = [record for record in records if not record.spec().placement.is_baseline]
    for record in arms:
        spec, baseline = record.spec(), _baseline_of(record, records)
        if baseline is None or not record.evals():
            continue
        last, train = record.evals()[-1], [one for one in record.measurements() if one.kind == "train"]
        reference = next((one for one in arms if _is_unquantized_twin(one.spec(), spec) and one.evals()), None)
        change = last.metrics["eval_loss"] - reference.evals()[-1].metrics["eval_loss"] if reference else None
        table.add_row(
            spec.name.replace(f"-{spec.quantization}", "", 1),
            spec.quantization,
            _cell(train[-1].metrics if train else {}, "base_memory_mb", "{:.2f}"),
            _cell(baseline, "eval_loss", "{:.3f}"),
            _cell(last.metrics, "eval_loss", "{:.3f}"),
            "-" if change is None else f"{change:+.3f}",
            _cell(last.metrics, "exact_match", "{:.2f}"),
            _cell(last.metrics, "irrelevant_pass", "{:.2f}"),
            f"{train[-1].metrics['train_seconds'] / train[-1].step:.2f}" if train else "-",
            verdict.kind if (verdict := record.verdict()) else "-",
        )
    note = (
        "alone: the loss of that base without an adapter. base MB: tensors of the frozen base in memory, not the peak "
        "of the process, which loads several bases in turn. s/step: shared by the trials that train together."
    )
    return Group(
        Text("\nthe same arm on each quantization; change of the loss from `none`:"),
        Folded(table),
        Text(note, style="dim"),
    )


TABLES: dict[str, Callable[[Sequence[Record]], Group]] = {
    "criteria": criteria_table,
    "quantization": quantization_table,
}


def _is_unquantized_twin(one: TrialSpec, other: TrialSpec) -> bool:
    differing = {"name", "arm", "quantization"}
    return one.quantization == "none" and one.model_dump(exclude=differing) == other.model_dump(exclude=differing)


def _baseline_of(record: Record, records: Sequence[Record]) -> Metrics | None:
    wanted = record.spec().baseline().trial_id
    found = next((one for one in records if one.spec().trial_id == wanted and one.evals()), None)
    return found.evals()[0].metrics if found else None


def _value(one: Criterion) -> str:
    shown = f"{100 * one.value:+.1f}" if one.name == "token_accuracy_rise" else f"{one.value:.3g}"
    return f"{shown} {'✓' if one.met else '✗'}"


def _yes(met: bool) -> str:
    return "met" if met else "no"


def _cell(metrics: Metrics, name: str, form: str) -> str:
    return form.format(metrics[name]) if name in metrics else "-"


def _table(left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table
