"""How much each setting decides about a metric, by Optuna, beside the contrasts."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.effects.design import FACTORS, Observation, levels
from trainables.metrics import METRICS

LEAST_TRIALS = 8


def importances(metric: str, among: Sequence[Observation]) -> dict[str, float]:
    """Return the importance of each factor that varies, summing to 1; empty with fewer than eight trials.

    PED-ANOVA, the default of Optuna, asks which settings make a trial one of the best; it gives no direction and no
    interval (optuna.importance.PedAnovaImportanceEvaluator).
    """
    varying = [factor for factor in FACTORS if len(levels(factor, among)) > 1]
    if len(among) < LEAST_TRIALS or not varying:
        return {}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    direction = "maximize" if METRICS[metric].direction == "higher" else "minimize"
    study = optuna.create_study(direction=direction)
    choices: dict[str, optuna.distributions.BaseDistribution] = {
        factor.name: optuna.distributions.CategoricalDistribution(levels(factor, among)) for factor in varying
    }
    for one in among:
        values = {factor.name: round(factor.value(one), 9) for factor in varying}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=choices, value=one.last.metrics[metric]))
    return dict(optuna.importance.get_param_importances(study))
