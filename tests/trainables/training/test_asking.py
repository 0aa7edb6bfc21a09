"""Tests that guards lead a trial, alone and in a cohort, to ask rows of the reserve, which are in no metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from small_trials import SpecMaker, opened, whole_run
from together import Together

from trainables.data.ood import OodRow
from trainables.decision import Ask, Continue, Decision, Eval
from trainables.engine import Engine
from trainables.evaluation.evaluator import Evaluator
from trainables.measurement import Measurement
from trainables.probes.captions import captions
from trainables.probes.metric import RowResults
from trainables.probes.probe import Baseline
from trainables.probes.reserve import balanced, by_group, joined, split
from trainables.record import Record
from trainables.training.asking import ask_all, ask_for_guards

CORE = 2


@dataclass(frozen=True)
class Curious:
    """Asks one row at a time until an eval has `rows` of the reserve, and never stops."""

    rows: int
    metric: str = "irrelevant_pass"
    evals_needed: int = 1

    def limit(self, baseline: Eval, evals: Sequence[Eval]) -> float | None:
        return None

    def excess(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        return 0.0

    def decide(self, baseline: Eval, evals: Sequence[Eval]) -> Decision:
        reserve = evals[-1].reserve.get(self.metric, RowResults({}))
        return Ask(1) if len(reserve.values) < self.rows else Continue()


@pytest.fixture(scope="module")
def reserved(engine: Engine) -> Engine:
    """The engine of these tests, whose eval asks two irrelevant rows; the third and one caption row are the reserve."""
    data = engine.evaluator.data
    core, reserve = split(data.ood, CORE)
    more = [replace(row, row_id="more", group="door") for row in data.of_kind("irrelevant")[:1]]
    data = replace(data, ood=core, reserve=(*reserve, *more))
    return replace(engine, evaluator=Evaluator(engine.base, engine.encoder, data))


@pytest.fixture(scope="module")
def measured(reserved: Engine) -> Baseline:
    scores, answers = reserved.evaluator.measure(None)
    asked = ask_all(reserved.evaluator, Measurement("eval", 0, scores.metrics, scores.counts, scores.rows))
    shown = captions(reserved.evaluator.data, answers)
    return Baseline(scores.metrics, shown, scores.counts, scores.rows, asked.measurement.reserve)


def test_a_guard_leads_a_trial_to_ask_the_reserve(
    reserved: Engine, measured: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    record = whole_run(reserved, make_spec(), tmp_path / "t", measured, guards=(Curious(2),))
    assert str(record.verdict()) == "completed"
    order = [row.row_id for row in reserved.evaluator.data.reserve]
    for one in record.evals():
        assert [*one.reserve["irrelevant_pass"].values] == [*one.reserve["hallucination"].values] == order
        assert one.counts["irrelevant_pass"].rows == CORE  # no metric counts the reserve
        kinds = [sample["kind"] for sample in record.samples(one.step)]
        assert kinds.count("reserve") == 2 and kinds.count("irrelevant") == CORE
    assert record.samples(2)[-1]["group"] == "door"
    few = whole_run(reserved, make_spec(), tmp_path / "few", measured, guards=(Curious(1),))
    assert [[*one.reserve["irrelevant_pass"].values] for one in few.evals()] == [order[:1]] * 2
    greedy = whole_run(reserved, make_spec(), tmp_path / "greedy", measured, guards=(Curious(99),))
    assert [len(one.reserve["irrelevant_pass"].values) for one in greedy.evals()] == [2, 2]  # nothing is left to ask
    for other in (few, greedy):
        assert [one.metrics for one in other.evals()] == [one.metrics for one in record.evals()]


def test_a_cohort_asks_what_each_member_needs_as_it_would_alone(
    reserved: Engine, measured: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    specs = [make_spec(name="one", seed=1), make_spec(name="two", seed=2)]
    together = Together(reserved, measured, tmp_path / "packed", specs)
    for trial in together.cohort.trials:
        trial.guards = (Curious(1 if trial.spec.name == "one" else 2),)
    together.finish()
    for spec, rows in zip(specs, (1, 2), strict=True):
        alone = whole_run(reserved, spec, tmp_path / spec.name, measured, guards=(Curious(rows),))
        packed = together.record(spec.name)
        assert [one.reserve for one in packed.evals()] == [one.reserve for one in alone.evals()]
        assert [len(one.reserve["irrelevant_pass"].values) for one in alone.evals()] == [rows, rows]


def test_answers_that_the_model_did_not_give_end_the_trial(
    reserved: Engine, measured: Baseline, make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lie(questions: Sequence[object]) -> dict[str, str]:
        return {one.key: "a better answer" for one in questions}  # type: ignore[attr-defined]

    monkeypatch.setattr(reserved.evaluator, "ask", lie)
    one = Measurement("eval", 2, measured.metrics, measured.counts, measured.rows)
    asked = ask_for_guards(reserved.evaluator, reserved.evaluator, (Curious(2),), measured, [one])
    assert asked.finding is not None and asked.finding.check == "answers_not_generated"


def test_the_baseline_answers_the_whole_reserve(reserved: Engine, make_spec: SpecMaker, tmp_path: Path) -> None:
    with opened(reserved, make_spec().baseline(), tmp_path / "A0", None) as trial:
        trial.advance(lambda: False)
    [measured] = Record(tmp_path / "A0").evals()
    assert [*measured.reserve["irrelevant_pass"].values] == [row.row_id for row in reserved.evaluator.data.reserve]
    assert measured.counts["irrelevant_pass"].rows == CORE


def test_a_fall_of_one_kind_of_picture_is_recorded(reserved: Engine, measured: Baseline) -> None:
    doors = [replace(reserved.evaluator.data.reserve[-1], row_id=f"door-{n}", group="door") for n in range(6)]
    others = [replace(one, row_id=f"chart-{n}", group="chart") for n, one in enumerate(doors)]
    data = replace(reserved.evaluator.data, ood=(*doors, *others), reserve=())
    evaluator = Evaluator(reserved.base, reserved.encoder, data)
    right = RowResults({row.row_id: 1.0 for row in data.ood})
    base = replace(measured, rows={"irrelevant_pass": right}, reserve={})
    for lost, falls in ((6, ["irrelevant_pass on `door`: 0 of 6, baseline 6"]), (4, [])):
        wrong = {row.row_id: 0.0 for row in doors[:lost]}
        one = Measurement("eval", 2, {}, {}, {"irrelevant_pass": RowResults({**right.values, **wrong})})
        asked = ask_for_guards(evaluator, evaluator, (), base, [one])
        assert [str(fall) for fall in asked.measurement.falls] == falls


# ---------------------------------------------------------------- core and reserve
def rows_of(count: int, groups: Sequence[str | None]) -> list[OodRow]:
    return [OodRow(f"r{n}", "irrelevant", (), (), "no", (), groups[n % len(groups)]) for n in range(count)]


def test_the_core_is_balanced_and_the_same_whatever_the_order_of_the_file() -> None:
    rows = rows_of(192, [f"kind-{number}" for number in range(8)])
    core, reserve = split(rows)
    assert (len(core), len(reserve)) == (48, 144)
    assert {group: one.rows for group, one in by_group(core, {row.row_id: 1.0 for row in core}).items()} == {
        f"kind-{number}": 6 for number in range(8)
    }
    assert list(core) == [row for row in rows if row in core]
    turned = split(rows[::-1])
    assert ({*core}, reserve) == ({*turned[0]}, turned[1])
    for start in range(0, 144, 8):
        assert len({row.group for row in reserve[start : start + 8]}) == 8  # the groups take turns


def test_few_rows_are_all_core_and_other_kinds_are_never_reserved() -> None:
    few = rows_of(48, [None])
    assert split(few) == (tuple(few), ())
    words = [replace(row, row_id=f"t{row.row_id}", kind="text") for row in rows_of(99, [None])]
    core, reserve = split([*rows_of(49, [None]), *words])
    assert len(core) == 48 + 99 and [row.kind for row in reserve] == ["irrelevant"]
    assert sorted(row.row_id for row in balanced(few)) == sorted(row.row_id for row in few)


def test_results_are_joined_by_metric() -> None:
    first, more = {"a": RowResults({"x": 1.0})}, {"a": RowResults({"y": 0.0}), "b": RowResults({"y": 1.0})}
    assert joined(first, more) == {"a": RowResults({"x": 1.0, "y": 0.0}), "b": RowResults({"y": 1.0})}
