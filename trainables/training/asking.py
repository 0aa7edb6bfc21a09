"""Asks rows of the reserve: those that the guards of a trial need to decide, and all of them for the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from trainables.data.ood import OodRow
from trainables.decision import Guard
from trainables.evaluation.drafts import Drafts
from trainables.evaluation.evaluator import Evaluator
from trainables.health.checks import Finding
from trainables.health.eval_controls import ControlEvaluator
from trainables.health.eval_integrity import judge_answers, replaced, witness_of
from trainables.hypothesis_tests import sign_test
from trainables.measurement import GroupFall, Measurement
from trainables.probes.metric import RowResults
from trainables.probes.probe import Baseline
from trainables.probes.question import ask_ood
from trainables.probes.reserve import RESERVED_KIND, by_group, joined, scored
from trainables.tested_guards import rows_to_ask, standings

FALL_METRIC = "irrelevant_pass"
FALL_ERROR = 0.05  # of the one-sided test of one kind of picture


@dataclass(frozen=True)
class Asked:
    """A measurement with its results on the reserve, the answers, and the finding that makes them invalid, if any.

    `tokens` are those of the answers, drafts of later ones.
    """

    measurement: Measurement
    answers: Mapping[str, str] = field(default_factory=dict)
    finding: Finding | None = None
    tokens: Drafts = field(default_factory=dict)


def ask_for_guards(
    evaluator: Evaluator,
    member: ControlEvaluator,
    guards: Sequence[Guard],
    baseline: Baseline,
    evals: Sequence[Measurement],
) -> Asked:
    """Ask the next rows of the reserve until the guards decide on the newest of `evals`, or none are left.

    `member` answers: the live model, or one member of a cohort.
    """
    asked, left = Asked(evals[-1]), evaluator.data.reserve
    while asked.finding is None and left:
        count = rows_to_ask(guards, baseline, [*evals[:-1], asked.measurement])
        if not count:
            break
        asked, left = _ask(evaluator, member, asked, left[:count]), left[count:]
    found = asked.measurement
    found = replace(found, decided=standings(guards, baseline, found), falls=_falls(evaluator, found, baseline))
    return replace(asked, measurement=found)


def ask_all(evaluator: Evaluator, measurement: Measurement) -> Asked:
    """Ask the whole reserve once, as the baseline does, to which every trial's answers are compared."""
    reserve = evaluator.data.reserve
    return _ask(evaluator, evaluator, Asked(measurement), reserve) if reserve else Asked(measurement)


def _ask(evaluator: Evaluator, member: ControlEvaluator, asked: Asked, rows: Sequence[OodRow]) -> Asked:
    questions, measurement = [ask_ood(row) for row in rows], asked.measurement
    with witness_of(evaluator) as witness:
        answers = member.ask(questions)
    finding = judge_answers(measurement.step, answers, len(questions), witness.answers(), replaced(evaluator))
    reserve = joined(measurement.reserve, scored(evaluator.data, rows, answers))
    tokens = {**asked.tokens, **witness.tokens}
    return Asked(replace(measurement, reserve=reserve), {**asked.answers, **answers}, finding, tokens)


def _falls(evaluator: Evaluator, one: Measurement, baseline: Baseline) -> tuple[GroupFall, ...]:
    own, base = _results(one), _results(baseline)
    if not own.keys() <= base.keys():
        return ()  # a baseline of an earlier version kept no results by row
    data = evaluator.data
    rows = [row for row in (*data.of_kind(RESERVED_KIND), *data.reserve) if row.row_id in own]
    before = by_group(rows, base)
    return tuple(
        GroupFall(FALL_METRIC, group, now.successes, now.rows, before[group].successes)
        for group, now in by_group(rows, own).items()
        if sign_test(*_changes([row for row in rows if row.group == group], own, base)) <= FALL_ERROR
    )


def _changes(rows: Sequence[OodRow], own: Mapping[str, float], base: Mapping[str, float]) -> tuple[int, int]:
    lost = sum(own[row.row_id] < base[row.row_id] for row in rows)
    return lost, sum(own[row.row_id] > base[row.row_id] for row in rows)


def _results(one: Measurement | Baseline) -> dict[str, float]:
    nothing = RowResults({})
    return {**one.rows.get(FALL_METRIC, nothing).values, **one.reserve.get(FALL_METRIC, nothing).values}
