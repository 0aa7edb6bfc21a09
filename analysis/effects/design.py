"""The trials of an experiment as a design: one observation a trial, and the matrix of a linear model on factors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.candidates import FULL_STRENGTH
from analysis.mlflow_runs import UNSAID_DEFAULTS, ExperimentRuns, TrialRun
from trainables.record import Measurement

MODEST = 1.25  # the unit of the rate: a quarter more


@dataclass(frozen=True)
class Observation:
    """One trained trial with its last eval, which stands for the end where a guard stopped the trial."""

    trial: TrialRun
    seed: str
    language: int
    vision: int
    rank: float
    rate: float
    quantization: str
    last: Measurement

    @property
    def was_stopped(self) -> bool:
        """True when a guard or a scheduler ended the trial before its last step."""
        return self.trial.verdict_kind == "pruned"


@dataclass(frozen=True)
class Factor:
    """A setting that a study varies, in the unit of its effect; `unit` says what one step of it is."""

    name: str
    unit: str
    value: Callable[[Observation], float]


LANGUAGE = Factor("language", "layer", lambda one: one.language)
VISION = Factor("vision", "block", lambda one: one.vision)
RANK = Factor("rank", "doubling", lambda one: math.log2(one.rank))
RATE = Factor("rate", "25 % more", lambda one: math.log(one.rate) / math.log(MODEST))
REPLAY = Factor("replay", "tenth of the rows", lambda one: 10 * replay_ratio(one.trial))
FACTORS = (LANGUAGE, VISION, RANK, RATE, REPLAY)
INTERACTION = "language x vision"


def observations(experiment: ExperimentRuns, measured: Mapping[str, Sequence[Measurement]]) -> tuple[Observation, ...]:
    """Return the trained trials that completed or were stopped, each with its last eval at full strength.

    Trials of one kind of modules, or of other layers than the last, are left out: the factors count last layers.
    """
    found = []
    for trial in experiment.trials:
        if not UNSAID_DEFAULTS.keys().isdisjoint(trial.parameters):
            continue
        evals = [one for one in measured[trial.run_id] if one.kind == "eval" and one.scale == FULL_STRENGTH]
        layers = [trial.parameters.get(key) for key in ("language_layers", "vision_blocks")]
        settings = [trial.parameters.get(key) for key in ("rank", "learning_rate")]
        numbers = [value for value in (*layers, *settings) if isinstance(value, int | float)]
        if len(numbers) < 4 or not any(layers) or not evals or trial.verdict_kind not in ("completed", "pruned"):
            continue
        language, vision, rank, rate = numbers
        where = (int(language), int(vision), float(rank), float(rate))
        seed, quantization = (str(trial.parameters.get(key, "")) for key in ("seed", "quantization"))
        found.append(Observation(trial, seed, *where, quantization, max(evals, key=lambda one: one.step)))
    return tuple(found)


def replay_ratio(trial: TrialRun) -> float:
    """Return the share of replay rows of a trial; runs of earlier versions have none."""
    value = trial.parameters.get("replay_ratio", 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def levels(factor: Factor, among: Sequence[Observation]) -> list[float]:
    """Return the values of a factor in these trials, in order."""
    return sorted({round(factor.value(one), 9) for one in among})


LEAST_PART = 1e-9  # of a column, which rounding leaves of one that is a combination of others


@dataclass(frozen=True)
class Design:
    """The matrix of a linear model, (trials, columns), with the names of its columns.

    The first columns are blocks (one for each seed and quantization); the others are the factors that vary, centred,
    and the product of the two towers. `means` are the means that were subtracted.
    """

    columns: tuple[str, ...]
    matrix: np.ndarray
    means: Mapping[str, float]

    def can_tell(self, weights: Mapping[str, float]) -> bool:
        """True when these trials determine the combination of coefficients: no other setting varies along with it."""
        if not weights or not weights.keys() <= set(self.columns):
            return False
        wanted = np.array([weights.get(name, 0.0) for name in self.columns])
        return bool(np.allclose(wanted @ np.linalg.pinv(self.matrix) @ self.matrix, wanted, atol=1e-6))


def linear_design(among: Sequence[Observation]) -> Design:
    """Return the design of main effects and of the interaction of the towers, with seeds and quantizations as blocks.

    The interaction is left out where the towers are not crossed: it then has no column of its own.
    """
    columns, names = _blocks(among)
    means: dict[str, float] = {}
    centred: dict[str, np.ndarray] = {}
    for factor in FACTORS:
        values = np.array([factor.value(one) for one in among])
        if len(levels(factor, among)) > 1:
            means[factor.name] = float(values.mean())
            centred[factor.name] = values - means[factor.name]
    crossed = centred.get(LANGUAGE.name), centred.get(VISION.name)
    if crossed[0] is not None and crossed[1] is not None:
        centred[INTERACTION] = crossed[0] * crossed[1]
    for name, column in centred.items():
        if name != INTERACTION or _adds(columns, column):
            columns.append(column)
            names.append(name)
    return Design(tuple(names), np.column_stack(columns), means)


def level_design(factor: Factor, among: Sequence[Observation]) -> Design:
    """Return the design in which `factor` has a column for each of its levels above the first, beside the others."""
    columns, names = _blocks(among)
    own = np.array([round(factor.value(one), 9) for one in among])
    for level in levels(factor, among)[1:]:
        columns.append((own == level).astype(float))
        names.append(f"{factor.name} {level:g}")
    for other in FACTORS:
        values = np.array([other.value(one) for one in among])
        if other != factor and len(levels(other, among)) > 1:
            columns.append(values - values.mean())
            names.append(other.name)
    return Design(tuple(names), np.column_stack(columns), {})


def _blocks(among: Sequence[Observation]) -> tuple[list[np.ndarray], list[str]]:
    columns, names = [np.ones(len(among))], ["mean"]
    basis = _Basis.of(columns)
    for key in ("seed", "quantization"):
        values = [getattr(one, key) for one in among]
        for value in sorted(set(values))[1:]:
            column = np.array([float(one == value) for one in values])
            if basis.takes(column):
                columns.append(column)
                names.append(f"{key} {value}")
    return columns, names


def _adds(columns: Sequence[np.ndarray], column: np.ndarray) -> bool:
    """True when a column is not a combination of the others, so that its effect can be told apart."""
    return _Basis.of(columns).takes(column)


@dataclass
class _Basis:
    """Orthonormal columns that span those it took; hundreds of seeds make a rank for each of them too slow."""

    columns: np.ndarray

    @classmethod
    def of(cls, columns: Sequence[np.ndarray]) -> _Basis:
        basis = cls(np.empty((len(columns[0]), 0)))
        for column in columns:
            basis.takes(column)
        return basis

    def takes(self, column: np.ndarray) -> bool:
        """Add a column, unless it is a combination of those taken; return whether it was added."""
        rest, length = column, float(np.linalg.norm(column))
        for _ in range(2):  # the second time removes what rounding left
            rest = rest - self.columns @ (self.columns.T @ rest)
        size = float(np.linalg.norm(rest))
        if size <= LEAST_PART * length:
            return False
        self.columns = np.column_stack([self.columns, rest / size])
        return True
