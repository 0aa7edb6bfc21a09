"""What the report says, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from analysis.charts.candidate_paths import limits_on, paths_of
from analysis.charts.chart import Chart, chart_of
from analysis.frontier import FrontierInfo, PlacementResult
from analysis.guard_limits import constraint_of_record, guards_of
from analysis.report.conclusions import conclusion, footnotes, marked_label, recommended, unknowns
from analysis.report.tables import text_table
from analysis.study_report.curves import Plot, guard_plots, training_plots
from analysis.study_report.evidence import (
    ArmCommand,
    Cost,
    Provenance,
    baseline_record,
    commands_of,
    costs_of,
    last_eval,
    provenance_of,
    records_of,
    samples_at,
)
from analysis.study_report.findings import AnswerPair, Fall, answer_pairs, falls, shown
from trainables.metrics import METRICS
from trainables.record import Measurement, Record

LEFT_OUT = ("excluded", "no gain", "running")


@dataclass(frozen=True)
class PickedSeed:
    """The trial that would be shipped, its eval, and what it lost and says; the lists are empty where not known.

    `probes` are name, counted rows, the base alone and this trial, of every metric that both have.
    """

    label: str
    trial: str
    step: int
    probes: tuple[tuple[str, str, str, str], ...]
    fallen: tuple[Fall, ...]
    answers: tuple[AnswerPair, ...]


@dataclass(frozen=True)
class LeftOut:
    """A placement that is not compared or not chosen, and why."""

    label: str
    standing: str
    reason: str


@dataclass(frozen=True)
class StudyContent:
    """The whole report; `missing` says what could not be read, in sentences."""

    experiment: str
    written: date
    answer: tuple[str, ...]
    unknowns: tuple[str, ...]
    footnotes: tuple[str, ...]
    chart: Chart
    header: tuple[str, ...]
    placements: tuple[tuple[bool, tuple[str, ...]], ...]
    picked: PickedSeed | None
    guards: tuple[Plot, ...]
    training: tuple[Plot, ...]
    left_out: tuple[LeftOut, ...]
    costs: tuple[Cost, ...]
    provenance: Provenance
    commands: tuple[ArmCommand, ...]
    ship_command: str
    missing: tuple[str, ...]


def content_of(info: FrontierInfo, measured: Mapping[str, Sequence[Measurement]], written: date) -> StudyContent:
    """Gather the report from the frontier, the measurements by run id, and the records on this machine.

    Raises:
        FileDamaged: a record on this machine is damaged.
    """
    records, pick = records_of(info), recommended(info)
    known = list(records.values())
    trained = [one for one in known if not one.spec().placement.is_baseline]
    base = baseline_record(info, records, trained[0].spec()) if trained else None
    guards, baseline = guards_of(known[0]) if known else [], last_eval(base)
    limits = limits_on(info.objectives[0].name, guards, constraint_of_record(known[0]) if known else None, baseline)
    header, rows = text_table(info)
    return StudyContent(
        experiment=info.experiment,
        written=written,
        answer=tuple(conclusion(info)),
        unknowns=tuple(unknowns(info)),
        footnotes=tuple(footnotes(info)),
        chart=chart_of(info, limits, paths_of(info, measured)),
        header=tuple(header),
        placements=tuple((one.on_frontier, tuple(row)) for one, row in zip(info.results, rows, strict=True)),
        picked=_picked(pick, info, records) if pick else None,
        guards=tuple(guard_plots(info, measured, guards, baseline)),
        training=tuple(training_plots(info, measured)),
        left_out=tuple(LeftOut(marked_label(one), one.kind, one.reason) for one in info.of_kind(*LEFT_OUT)),
        costs=tuple(costs_of(info)),
        provenance=provenance_of(trained),
        commands=tuple(commands_of(info, records)),
        ship_command=f"analysis ship --experiment {info.experiment} --out shipped",
        missing=tuple(_missing(info, measured, records)),
    )


def _picked(pick: PlacementResult, info: FrontierInfo, records: Mapping[str, Record]) -> PickedSeed | None:
    """Return the admissible seed of lowest eval loss, None if its record is not on this machine."""
    admitted = [one.trial for one in pick.placement.seed_runs if "eval_loss" in one.trial.best]
    trial = min(admitted, key=lambda one: one.best["eval_loss"], default=None)
    record = records.get(trial.run_id) if trial else None
    best = record.best() if record else None
    if trial is None or record is None or best is None:
        return None
    after = next((one for one in record.evals() if one.step == best.step), best)
    alone = baseline_record(info, records, record.spec())
    before = last_eval(alone)
    pairs = answer_pairs(samples_at(alone, before.step), samples_at(record, best.step)) if alone and before else []
    return PickedSeed(
        label=pick.placement.label,
        trial=trial.name,
        step=best.step,
        probes=tuple(_probes(before, after)) if before else (),
        fallen=tuple(falls(before, after)) if before else (),
        answers=tuple(pairs),
    )


def _probes(before: Measurement, after: Measurement) -> list[tuple[str, str, str, str]]:
    names = [name for name in METRICS if name in before.metrics and name in after.metrics]
    return [(name, METRICS[name].counts, shown(before, name), shown(after, name)) for name in names]


def _missing(
    info: FrontierInfo, measured: Mapping[str, Sequence[Measurement]], records: Mapping[str, Record]
) -> list[str]:
    trials = [one.trial for result in info.results for one in result.placement.seed_runs]
    sentences = []
    if away := [one.name for one in trials if one.run_id not in records]:
        sentences.append(f"The records of {len(away)} of {len(trials)} trials are not on this machine: their answers, "
                         "guards and commands are not shown.")  # fmt: skip
    if unlogged := [one.name for one in trials if not measured.get(one.run_id)]:
        sentences.append(f"MLflow holds no measurements of {len(unlogged)} of {len(trials)} trials: their curves are "
                         f"not shown (`python -m sweeps.{info.experiment} --sync` copies them).")  # fmt: skip
    return sentences
