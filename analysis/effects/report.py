"""All that the command `analysis effects` says, as one value made from trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.compare.difference import MARGIN
from analysis.effects.continuations import ContinuedPair, changes
from analysis.effects.design import FACTORS, Factor, Observation, levels, linear_design
from analysis.effects.hypotheses import Effect, Judgement, answers_of, effects_of
from analysis.effects.importance import importances
from analysis.effects.means import PlacementMeans, placement_means
from analysis.effects.parents import continuation_commands
from analysis.printed_commands import sync_command
from trainables.errors import UserError
from trainables.typed import typed

SHOWN = ("irrelevant_pass", "hallucination", "text_retention")  # beside the fit
LEAST_TRIALS = 4


@dataclass(frozen=True)
class EffectsReport:
    """The effects of an experiment's factors, what they say of H1 to H4, and what is not known.

    `commands` continue trials that left a stable and a lost parent, where H4 still needs them.
    """

    experiment: str
    trials: int
    seeds: int
    factors: tuple[str, ...]
    effects: tuple[Effect, ...]
    answers: tuple[Judgement, ...]
    importances: Mapping[str, Mapping[str, float]]
    unknown: tuple[str, ...]
    means: tuple[PlacementMeans, ...] = ()
    commands: tuple[str, ...] = ()


def effects_report(
    experiment: str,
    among: Sequence[Observation],
    pairs: Sequence[ContinuedPair],
    fit: str,
    margin: float = MARGIN,
    baseline: Mapping[str, float] | None = None,
    store: Sequence[str] = (),
) -> EffectsReport:
    """Estimate the effects and judge the hypotheses.

    `store` are the words that name the MLflow store in a printed command.

    Raises:
        UserError: there are too few trials, no factor varies, or not every trial has measured the fit.
    """
    varied = _varied(experiment, among, fit, store)
    metrics = [fit, *(name for name in SHOWN if all(name in one.last.metrics for one in among))]
    return EffectsReport(
        experiment,
        len(among),
        len({one.seed for one in among}),
        tuple(f"{factor.name} {', '.join(_level(factor.name, v) for v in levels(factor, among))}" for factor in varied),
        effects_of(among, metrics),
        answers_of(among, pairs, fit, margin),
        {name: importances(name, among) for name in metrics},
        (*_unknown(among, pairs), *_training_on_alone(pairs, metrics)),
        tuple(one for name in metrics if (one := placement_means(among, name))),
        continuation_commands(among, baseline, store) if baseline and not pairs else (),
    )


def _varied(experiment: str, among: Sequence[Observation], fit: str, store: Sequence[str]) -> list[Factor]:
    """Return the factors that vary, after the checks that `effects_report` names."""
    if len(among) < LEAST_TRIALS:
        raise UserError(
            f"effects need {LEAST_TRIALS} trained trials with evals or more, but `{experiment}` has {len(among)}",
            f"run more arms or seeds, or copy the records to MLflow: {sync_command(experiment, store)}",
        )
    if not all(fit in one.last.metrics for one in among):
        raise UserError(f"--y must be measured in every trial, but some of `{experiment}` lack `{fit}`")
    varied = [factor for factor in FACTORS if len(levels(factor, among)) > 1]
    if not varied:
        raise UserError(
            f"effects need a setting that varies, but all trials of `{experiment}` have equal layers, rank and rate",
            f"`{typed('response')}` varies them",
        )
    return varied


def _level(factor: str, value: float) -> str:
    # the levels of rank and rate are logarithms
    return f"{2**value:g}" if factor == "rank" else f"{1.25**value:.3g}" if factor == "rate" else f"{value:g}"


def _unknown(among: Sequence[Observation], pairs: Sequence[ContinuedPair]) -> list[str]:
    lines = []
    design = linear_design(among)
    alias = [f.name for f in FACTORS if f.name in design.columns and not design.can_tell({f.name: 1.0})]
    if alias:
        lines.append(f"{', '.join(alias)} do not vary independently, so their effects cannot be told apart.")
    stopped = sum(one.was_stopped for one in among)
    if stopped:
        lines.append(
            f"{stopped} of {len(among)} trials were stopped early; their last eval stands for the end, so losses of "
            "generality are at least what is shown."
        )
    if len({one.seed for one in among}) == 1:
        lines.append("One seed: the intervals hold what the model does not explain, not how seeds vary.")
    if not all(one.last.rows for one in among):
        lines.append("Some records hold no results by row: the intervals do not tell what other rows would show.")
    if any(len(levels(factor, among)) > 1 for factor in FACTORS) and not pairs:
        lines.append("No continued trials were given: H4 needs --continuations.")
    return lines


def _training_on_alone(pairs: Sequence[ContinuedPair], metrics: Sequence[str]) -> list[str]:
    if not pairs:
        return []
    parts = [(name, changes(pairs, name)[0]) for name in metrics]
    texts = [f"{name} {one.mean:+.3f} [{one.low:+.2f}, {one.high:+.2f}]" for name, one in parts]
    return [f"Training on from the stable parent changed ({len(pairs)} pairs): {', '.join(texts)}."]
