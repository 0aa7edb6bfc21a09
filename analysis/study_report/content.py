"""What the report says, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from analysis.candidates import FULL_STRENGTH
from analysis.charts.candidate_paths import study_chart
from analysis.charts.chart import Chart
from analysis.conclusion import Conclusion
from analysis.decision.pick import Pick
from analysis.frontier import FrontierInfo
from analysis.guard_limits import guards_of
from analysis.holdout import sentences
from analysis.printed_commands import sync_command
from analysis.report.conclusions import conclusion, footnotes, marked_label, unknowns
from analysis.report.plain_words import plain_words
from analysis.report.tables import reach_rows, text_table
from analysis.study_report.after_the_pick import EffectsSection, effects_section, holdout_rows
from analysis.study_report.answer import answer, candidate_header, candidate_rows, nearest
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
from analysis.study_report.findings import AnswerPair, ProbeFall, answer_pairs, falls, shown
from analysis.study_report.forecasts import HEADER, forecast_rows
from trainables.metrics import METRICS
from trainables.rates import choice_text, further_texts, read_choices
from trainables.record import Measurement, Record
from trainables.weak_probes import weak_probes_of

LEFT_OUT = ("excluded", "gain outside the constraint", "no gain", "running")


@dataclass(frozen=True)
class PickedSeed:
    """The trial that is shipped, or the nearest to it where nothing is; its eval, and what it lost and says.

    The lists are empty where not known. `probes` are name, counted rows, the base alone and this trial, of every metric
    that both have.
    """

    label: str
    trial: str
    step: int
    is_shipped: bool
    probes: tuple[tuple[str, str, str, str], ...]
    fallen: tuple[ProbeFall, ...]
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
    reached: tuple[tuple[str, ...], ...]
    header: tuple[str, ...]
    placements: tuple[tuple[bool, tuple[str, ...]], ...]
    candidate_header: tuple[str, ...]
    candidates: tuple[tuple[str, ...], ...]
    picked: PickedSeed | None
    guards: tuple[Plot, ...]
    training: tuple[Plot, ...]
    rates: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    costs: tuple[Cost, ...]
    provenance: Provenance
    commands: tuple[ArmCommand, ...]
    effects: EffectsSection
    holdout: tuple[tuple[str, ...], ...]
    commands_next: tuple[str, ...]
    missing: tuple[str, ...]
    forecast_header: tuple[str, ...] = HEADER
    forecasts: tuple[tuple[str, ...], ...] = ()
    plain: tuple[str, ...] = ()


def content_of(
    concluded: Conclusion, commands_next: Sequence[str], written: date, store: Sequence[str] = ()
) -> StudyContent:  # fmt: skip
    """Gather the report from what was concluded, the commands that come next, and the records on this machine.

    `store` are the words of a command that name the MLflow store.

    Raises:
        FileDamaged: a record on this machine is damaged.
    """
    info, found, measured = concluded.info, concluded.choice, concluded.measured
    records = records_of(info)
    known = list(records.values())
    trained = [one for one in known if not one.spec().placement.is_baseline]
    base = baseline_record(info, records, trained[0].spec()) if trained else None
    guards, baseline = guards_of(known[0]) if known else [], last_eval(base)
    header, rows = text_table(info)
    return StudyContent(
        experiment=info.experiment, written=written, answer=_answer(concluded, known),
        unknowns=tuple(dict.fromkeys((*found.unknown, *unknowns(info)))),
        footnotes=tuple(footnotes(info)), chart=study_chart(info, measured),
        reached=tuple(map(tuple, reach_rows(info))),
        header=tuple(header),
        placements=tuple((one.on_frontier, tuple(row)) for one, row in zip(info.results, rows, strict=True)),
        candidate_header=candidate_header(found), candidates=tuple(candidate_rows(found)),
        picked=_picked(found, info, records),
        guards=tuple(guard_plots(info, measured, guards, baseline)),
        training=tuple(training_plots(info, measured)),
        rates=tuple(_rates(known)),
        left_out=tuple(LeftOut(marked_label(one), one.kind, one.reason) for one in info.of_kind(*LEFT_OUT)),
        costs=tuple(costs_of(info)),
        provenance=provenance_of(trained),
        commands=tuple(commands_of(info, records)),
        effects=effects_section(concluded),
        holdout=tuple(holdout_rows(info.holdout)),
        commands_next=tuple(commands_next),
        missing=tuple(_missing(info, measured, records, store)),
        forecasts=tuple(forecast_rows(trained)),
        plain=tuple(plain_words(info)),
    )  # fmt: skip


def _answer(concluded: Conclusion, known: Sequence[Record]) -> tuple[str, ...]:
    found, info = concluded.choice, concluded.info
    is_judged = any(one.admissible is not None for one in found.judged)
    told = [*answer(found), *sentences(info.holdout)] if is_judged else conclusion(info)
    return (*told, *(f"Warning: {one}." for one in weak_probes_of(known)))


def _picked(found: Pick, info: FrontierInfo, records: Mapping[str, Record]) -> PickedSeed | None:
    """Return the seed that is shipped, else the nearest to it, None if its record is not on this machine."""
    if found.shipped is not None and found.picked is not None:
        one, name, is_shipped = found.shipped.chosen, found.picked.name, True
    else:
        near = nearest(found)
        if near is None:
            return None
        one = min(near.candidate.evals, key=lambda each: each.metrics["eval_loss"])
        name, is_shipped = near.name, False
    record = records.get(one.trial.run_id)
    if record is None:
        return None
    alone = baseline_record(info, records, record.spec())
    before, after = last_eval(alone), one.measured
    own = samples_at(record, after.step) if after.scale == FULL_STRENGTH else []
    pairs = answer_pairs(samples_at(alone, before.step), own) if alone and before else []
    return PickedSeed(
        label=name,
        trial=one.trial.name,
        step=after.step,
        is_shipped=is_shipped,
        probes=tuple(_probes(before, after)) if before else (),
        fallen=tuple(falls(before, after)) if before else (),
        answers=tuple(pairs),
    )


def _rates(records: Sequence[Record]) -> list[str]:
    """Return the rates that pilots chose, and what to try further; empty without pilots."""
    found = []
    for experiment in dict.fromkeys(one.home.parent.parent for one in records):
        found += [*map(choice_text, read_choices(experiment).values()), *further_texts(experiment)]
    return found


def _probes(before: Measurement, after: Measurement) -> list[tuple[str, str, str, str]]:
    names = [name for name in METRICS if name in before.metrics and name in after.metrics]
    return [(name, METRICS[name].counts, shown(before, name), shown(after, name)) for name in names]


def _missing(
    info: FrontierInfo, measured: Mapping[str, Sequence[Measurement]], records: Mapping[str, Record],
    store: Sequence[str],
) -> list[str]:  # fmt: skip
    trials = [one.trial for result in info.results for one in result.placement.seed_runs]
    sentences = []
    if away := [one.name for one in trials if one.run_id not in records]:
        sentences.append(f"The records of {len(away)} of {len(trials)} trials are not on this machine: their answers, "
                         "guards and commands are not shown.")  # fmt: skip
    if unlogged := [one.name for one in trials if not measured.get(one.run_id)]:
        sentences.append(f"MLflow holds no measurements of {len(unlogged)} of {len(trials)} trials: their curves are "
                         f"not shown (`{sync_command(info.experiment, store)}` copies them).")  # fmt: skip
    return sentences
