"""Optuna's ask-and-tell interface: asks for the next trials, and tells their outcomes. It runs no trial.

The SQLite file holds the whole state of a search. Every cohort has a new sampler, seeded by the search's seed and the
number of trials so far, so that a killed search continues with the same trials.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from sweeps.execution.experiment import RESTORE, Experiment
from sweeps.hpo.outcome import Outcome
from sweeps.hpo.space import Choice, Dimension, Point, Sampler, Space, Value
from trainables.io.files import FileDamaged
from trainables.pareto import Objective

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial


ATTEMPTS_PER_TRIAL = 4  # suggestions of the sampler per new point, before a point is drawn at random
MIN_POPULATION = 4
DRAWS_PER_TRIAL = 1000  # random draws per new point, before the space counts as exhausted


@dataclass(frozen=True)
class Suggestion:
    """A point to run; `key` is its trial id, which points with equal training share."""

    key: str
    point: Point


@dataclass(frozen=True)
class SearchSettings:
    """The settings that determine, with the outcomes, the points of a search; `cohort` points are asked at a time."""

    space: Space
    objectives: tuple[Objective, ...]
    sampler: Sampler = "nsga2"
    cohort: int = 8
    seed: int = 0

    def as_configuration(self) -> dict[str, Any]:
        """Return the entries of a search in `study.json`; without the budget, so that it can be raised later."""
        return {
            "sampler": self.sampler,
            "seed": self.seed,
            "cohort": self.cohort,
            "objectives": [f"{one.name}:{one.direction}" for one in self.objectives],
            **{f"space.{name}": values for name, values in self.space.as_json().items()},
        }


class Searcher:
    """One search; `key_of` returns the trial id of a point, None for a baseline."""

    def __init__(self, settings: SearchSettings, storage: str | None, key_of: Callable[[Point], str | None]) -> None:
        """Open or create the search in `storage` (an SQLAlchemy URL); None keeps it in memory."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.settings, self.key_of = settings, key_of
        self._distributions = {name: _distribution(one) for name, one in settings.space.dimensions.items()}
        self._study = optuna.create_study(
            storage=storage,
            study_name="search",
            directions=["maximize" if one.direction == "higher" else "minimize" for one in settings.objectives],
            load_if_exists=True,
        )
        self.outcomes: dict[str, Outcome] = {}
        self._running: dict[str, list[Trial]] = {}
        for frozen in self._study.get_trials(deepcopy=False):
            self._restore(frozen)

    @property
    def asked_count(self) -> int:
        """Return the number of different trials so far."""
        return len(self.outcomes.keys() | self._running.keys())

    def unfinished(self) -> list[Suggestion]:
        """Return the suggestions without an outcome, from a stopped launch or from the newest cohort."""
        return [Suggestion(key, self._point(trials[0].params)) for key, trials in self._running.items()]

    def ask(self, count: int) -> list[Suggestion]:
        """Return `count` new suggestions; fewer when the space is exhausted.

        A suggestion that repeats a trial gets that trial's outcome, at once or when it ends, and the sampler is asked
        again. When it only suggests repeats, points are drawn at random.
        """
        number = len(self._study.get_trials(deepcopy=False))
        seed = Random(f"{self.settings.seed}-{number}").randrange(2**31)
        self._study.sampler = _sampler(self.settings, seed)
        fresh: list[Suggestion] = []
        for _ in range(count * ATTEMPTS_PER_TRIAL):
            if len(fresh) == count:
                return fresh
            fresh += self._ask_once()
        random = Random(seed)
        for _ in range(count * DRAWS_PER_TRIAL):
            if len(fresh) == count:
                break
            point = self.settings.space.draw(random)
            key = self.key_of(point)
            if key is not None and key not in self.outcomes and key not in self._running:
                self._study.enqueue_trial(self._params(point))
                fresh += self._ask_once()
        return fresh

    def tell(self, key: str, outcome: Outcome) -> None:
        """Tell Optuna the outcome of a trial, for every suggestion of it."""
        for trial in self._running.pop(key):
            self._tell(trial, outcome)
        self.outcomes[key] = outcome

    # ---------------------------------------------------------------- Optuna
    def _ask_once(self) -> list[Suggestion]:
        trial = self._study.ask(self._distributions)
        point = self._point(trial.params)
        key = self.key_of(point)
        if key is None:
            self._tell(trial, Outcome("failed"))
            return []
        trial.set_user_attr("trial_id", key)
        trial.set_user_attr("point", dict(point))
        if key in self.outcomes:
            self._tell(trial, self.outcomes[key])
            return []
        self._running.setdefault(key, []).append(trial)
        return [Suggestion(key, point)] if len(self._running[key]) == 1 else []

    def _tell(self, trial: Trial, outcome: Outcome) -> None:
        from optuna.trial import TrialState

        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        known = trial.constraints
        for name, value in outcome.constraints.items():
            if name not in known:  # a launch that was killed here has set some of them
                trial.set_constraint(name, value)
        self._study.tell(trial, list(outcome.values) or None, states[outcome.state])

    def _restore(self, frozen: FrozenTrial) -> None:
        """Restore a trial of an earlier launch; an unfinished trial without all its parameters is failed."""
        from optuna.trial import Trial, TrialState

        if frozen.state is TrialState.WAITING:
            return
        is_complete = frozen.params.keys() == self._distributions.keys()
        key = self.key_of(self._point(frozen.params)) if is_complete else None
        if frozen.state.is_finished():
            if key is not None:
                self.outcomes[key] = _outcome(frozen)
            return
        trial = Trial(self._study, frozen._trial_id)
        if key is None:
            self._tell(trial, Outcome("failed"))
        elif key in self.outcomes:
            self._tell(trial, self.outcomes[key])
        else:
            self._running.setdefault(key, []).append(trial)

    def _point(self, params: Mapping[str, Any]) -> dict[str, Value]:
        return {name: _value(one, params[name]) for name, one in self.settings.space.dimensions.items()}

    def _params(self, point: Point) -> dict[str, Any]:
        return {name: _param(one, point[name]) for name, one in self.settings.space.dimensions.items()}


def check_told(searcher: Searcher, experiment: Experiment) -> None:
    """Check that every trial whose outcome Optuna knows still has its record.

    Raises:
        FileDamaged: names the trials that have none.
    """
    known = {record.spec().trial_id for record in experiment.records()}
    lost = [key for key, outcome in searcher.outcomes.items() if outcome.state == "complete" and key not in known]
    if lost:
        trials = experiment.directory / "trials"
        message = f"{trials}: the search has results of {', '.join(lost)}, but their records are missing"
        raise FileDamaged(message, RESTORE)


def _sampler(settings: SearchSettings, seed: int) -> BaseSampler:
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # constant_liar and multivariate
        match settings.sampler:
            case "nsga2":
                # the first generation is random, and Optuna's default of 50 is more than most budgets
                return samplers.NSGAIISampler(population_size=max(MIN_POPULATION, settings.cohort), seed=seed)
            case "tpe":
                startup = settings.cohort
                return samplers.TPESampler(n_startup_trials=startup, multivariate=True, constant_liar=True, seed=seed)
            case "gp":
                return samplers.GPSampler(n_startup_trials=settings.cohort, seed=seed)
            case "random":
                return samplers.RandomSampler(seed=seed)


def _distribution(dimension: Dimension) -> BaseDistribution:
    """Return the Optuna distribution of a dimension; choices of numbers are indices, so that their order is known."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(dimension, Choice):
        return FloatDistribution(dimension.low, dimension.high, log=True)
    if dimension.is_ordered:
        return IntDistribution(0, len(dimension.values) - 1)
    return CategoricalDistribution(dimension.values)


def _value(dimension: Dimension, param: Any) -> Value:
    return dimension.values[param] if isinstance(dimension, Choice) and dimension.is_ordered else param


def _param(dimension: Dimension, value: Value) -> Any:
    return dimension.values.index(value) if isinstance(dimension, Choice) and dimension.is_ordered else value


def _outcome(frozen: FrozenTrial) -> Outcome:
    from optuna.trial import TrialState

    if frozen.state is TrialState.COMPLETE:
        return Outcome("complete", tuple(frozen.values), frozen.constraints)
    return Outcome("pruned" if frozen.state is TrialState.PRUNED else "failed", (), frozen.constraints)
