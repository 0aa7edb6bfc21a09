"""Tests a new guard in one file, from the study to the end of a trial, without changes elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from scanned_rows import scan_of
from small_trials import SpecMaker, whole_run

from sweeps.commands import STUDY as COMMANDS
from sweeps.execution.experiment import Experiment, configuration_of
from sweeps.hpo.outcome import distances
from sweeps.planning.active_guards import active_guards
from sweeps.planning.forecast import Forecast, forecast
from sweeps.planning.trial_checks import check_trial
from sweeps.study import PREFLIGHT_LIMITS
from trainables.constraint import TEXT_CONSTRAINT
from trainables.decision import Ask, Continue, Decision, Eval, Guard, Stop
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.guards import applicable, broken_by_baseline, judge
from trainables.metrics import METRICS
from trainables.probes.metric import Proportion
from trainables.probes.probe import Baseline
from trainables.record import Measurement


@dataclass(frozen=True)
class TooFewRight:
    """Stops when fewer than `min_successes` rows are right, counted; asks for more rows before it has seen enough."""

    metric: str
    min_successes: int
    min_rows: int

    @property
    def evals_needed(self) -> int:
        return 2

    def limit(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        return self.min_successes / self._seen(evals or [baseline])[-1].rows

    def decide(self, baseline: Eval, evals: Sequence[Eval]) -> Decision:
        newest = self._seen(evals)[-1]
        if len(evals) < self.evals_needed or newest.successes >= self.min_successes:
            return Continue()
        if newest.rows < self.min_rows:
            return Ask(self.min_rows - newest.rows)
        return Stop(f"nur {newest.successes} von {newest.rows} richtig")

    def excess(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        distance = self.limit(baseline, evals) - self._seen(evals)[-1].rate
        return max(distance, 1e-9) if isinstance(self.decide(baseline, evals), Stop) else min(distance, 0.0)

    def _seen(self, evals: Sequence[Eval]) -> list[Proportion]:
        return [one.counts[self.metric] for one in evals]


OWN: Guard = TooFewRight("exact_match", min_successes=4, min_rows=3)
UNDECIDED: Guard = TooFewRight("exact_match", min_successes=4, min_rows=100)
STUDY = replace(COMMANDS, guards=(OWN,), constraint=TEXT_CONSTRAINT)


def scored(successes: int, rows: int = 8, step: int = 0) -> Measurement:
    metrics = {"exact_match": successes / rows, "text_retention": 1.0}
    return Measurement("eval", step, metrics, {"exact_match": Proportion(successes, rows)})


def test_a_study_with_it_is_planned() -> None:
    assert active_guards(STUDY, METRICS, sees=False).study.guards == (OWN,)
    assert applicable((OWN,), ()) == ((), (OWN,))


def test_its_evals_are_checked_before_anything_runs(make_spec: SpecMaker) -> None:
    (once,) = forecast([make_spec(steps=4, eval_every_steps=4)], 12)
    (twice,) = forecast([make_spec(steps=4, eval_every_steps=2)], 12)
    assert "the guards on exact_match could never stop it" in evals_finding(once)
    assert evals_finding(twice) == ""


def evals_finding(one: Forecast) -> str:
    found = check_trial(one, (OWN,), scan_of(), PREFLIGHT_LIMITS)
    return next((finding.message for finding in found if finding.check == "evals"), "")


def test_it_is_written_into_the_experiment_and_another_value_is_another_experiment(
    make_spec: SpecMaker, tmp_path: Path
) -> None:
    experiment, specs = Experiment(tmp_path / "own"), [make_spec()]
    experiment.directory.mkdir()
    experiment.configure(configuration_of(STUDY, specs))
    written = json.loads((experiment.directory / "study.json").read_text())
    assert written["guards"] == [{"rule": "TooFewRight", "metric": "exact_match", "min_successes": 4, "min_rows": 3}]
    experiment.configure(configuration_of(STUDY, specs))
    with pytest.raises(UserError, match="begun with another configuration: guards"):
        experiment.configure(configuration_of(replace(STUDY, guards=(UNDECIDED,)), specs))


def test_it_decides() -> None:
    baseline = scored(0)
    assert judge((OWN,), baseline, [scored(5, step=2), scored(4, step=4)]) is None
    assert judge((OWN,), baseline, [scored(3, step=2)]) is None
    verdict = judge((OWN,), baseline, [scored(5, step=2), scored(3, step=4)])
    assert verdict is not None
    assert (verdict.cause, verdict.reason) == ("exact_match", "nur 3 von 8 richtig")
    assert (verdict.value, verdict.limit) == (3 / 8, 0.5)
    assert distances([scored(5, step=2), scored(3, step=4)], baseline, STUDY)["toofewright_exact_match"] == 1 / 8
    assert broken_by_baseline((OWN,), baseline) == ["exact_match: baseline 0.00 < 0.50"]


def test_a_guard_that_asks_for_rows_lets_the_trial_train_on() -> None:
    assert UNDECIDED.decide(scored(0), [scored(0), scored(0)]) == Ask(92)
    assert judge((UNDECIDED,), scored(0), [scored(0), scored(0)]) is None


def test_a_trial_ends_by_it(engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path) -> None:
    assert baseline.counts["exact_match"].rows == 3
    record = whole_run(engine, make_spec(), tmp_path / "own", baseline, guards=(OWN,))
    verdict = record.verdict()
    assert verdict is not None and (str(verdict), verdict.step) == ("pruned(exact_match)", 4)
    assert verdict.reason == f"nur {record.evals()[-1].counts['exact_match'].successes} von 3 richtig"
    assert verdict.limit == 4 / 3
    unhurt = whole_run(engine, make_spec(), tmp_path / "undecided", baseline, guards=(UNDECIDED,))
    assert str(unhurt.verdict()) == "completed"
