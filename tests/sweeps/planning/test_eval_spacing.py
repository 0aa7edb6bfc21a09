"""Tests that a short run of a study has evals enough for its guards, and that an interval someone chose stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planned_trials import sources

from sweeps import commands, coverage, narrow, quantization, response, smoke, stage4
from sweeps.planning.eval_spacing import EVALS, LEAST_EVALS, spaced
from sweeps.planning.space import Axes, expand
from sweeps.search import SEARCH
from sweeps.study import Study
from trainables.guards import GUARDS, Floor
from trainables.schedule import planned_evals

STUDIES = [module.STUDY for module in (commands, coverage, narrow, quantization, response, smoke, stage4)]
PATIENT = (Floor("irrelevant_pass", max_relative_drop=0.2, min_absolute=0.8, patience_evals=8),)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
@pytest.mark.parametrize("fixed", [{}, {"steps": 60}, {"epochs": 1.0}], ids=str)
def test_every_study_evaluates_often_enough_on_a_thousand_rows(study: Study, fixed: dict[str, float]) -> None:
    few = replace(sources(), train_rows=1_000, is_miniature=False)
    trials = [one for one in expand(study, Axes(fixed=fixed), few) if not one.placement.is_baseline]
    least = max((LEAST_EVALS, *(guard.evals_needed for guard in study.guards)))
    assert trials and all(planned_evals(one.steps, one.eval_every_steps) >= least for one in trials)


def test_a_study_with_room_for_its_own_interval_keeps_it() -> None:
    [*_, last] = expand(stage4.STUDY, Axes(), sources())
    assert (last.steps, last.eval_every_steps) == (round(45_000 / 16), 50)


def test_an_interval_that_the_command_line_fixes_stays() -> None:
    few = replace(sources(), train_rows=1_000, is_miniature=False)
    [*_, last] = expand(stage4.STUDY, Axes(fixed={"eval_every_steps": 40}), few)
    assert (last.steps, last.eval_every_steps) == (62, 40)
    [*_, own] = expand(replace(stage4.STUDY, chosen_evals=True), Axes(), few)
    assert own.eval_every_steps == 50


@pytest.mark.parametrize("steps", [3, 4, 7, 17, 60, 62, 149])
@pytest.mark.parametrize("guards", [GUARDS, PATIENT, ()])
def test_a_short_run_has_at_least_as_many_evals_as_its_guards_need(steps: int, guards: tuple[Floor, ...]) -> None:
    least = min(steps, max((LEAST_EVALS, *(guard.evals_needed for guard in guards))))
    assert planned_evals(steps, spaced(steps, 500, guards)) >= least


def test_five_evals_replace_too_few() -> None:
    assert spaced(60, 50, GUARDS) == 12 and planned_evals(60, 12) == EVALS


def test_a_search_of_one_pass_over_a_thousand_rows_evaluates_often_enough() -> None:
    from sweeps.hpo.points import corners

    few = replace(sources(), train_rows=1_000, is_miniature=False)
    trials = [one for one in corners(SEARCH.space, SEARCH.study, few) if not one.placement.is_baseline]
    assert min(planned_evals(one.steps, one.eval_every_steps) for one in trials) >= LEAST_EVALS
