"""The curves of the arms over their steps: guards, losses and adapter norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.frontier import FrontierInfo
from trainables.decision import Guard
from trainables.metrics import METRICS
from trainables.record import Measurement

LOSSES = {"step_loss": "Training loss, mean of an interval", "eval_loss": "Loss on validation rows"}
NORMS = {"adapter_norm_language": "Size of the language update", "adapter_norm_vision": "Size of the vision update"}


@dataclass(frozen=True)
class ArmCurve:
    """One metric of one arm over its steps, as the mean over the seeds that reached each step."""

    arm: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Plot:
    """The curves of one metric; `limit` is the guard's, `baseline` that of the base alone, where they are known."""

    metric: str
    title: str
    unit: str
    curves: tuple[ArmCurve, ...]
    limit: float | None = None
    baseline: float | None = None

    @property
    def steps(self) -> list[int]:
        """Return every step of any curve, in order."""
        return sorted({step for curve in self.curves for step, _ in curve.points})

    @property
    def table(self) -> list[tuple[str, ...]]:
        """Return one row for each arm: its name, and its value at every step, empty where it was not measured."""
        rows = []
        for curve in self.curves:
            values = dict(curve.points)
            rows.append((curve.arm, *(f"{values[step]:.3f}" if step in values else "" for step in self.steps)))
        return rows


def guard_plots(
    info: FrontierInfo,
    measured: Mapping[str, Sequence[Measurement]],
    guards: Sequence[Guard],
    baseline: Measurement | None,
) -> list[Plot]:
    """Return a timeline of each guarded metric that was measured."""
    plots = []
    for guard in guards:
        alone = baseline.metrics.get(guard.metric) if baseline else None
        limit = guard.limit(baseline, ()) if baseline is not None and alone is not None else None
        name = type(guard).__name__.lower()
        plots.append(_plot(info, measured, guard.metric, f"{guard.metric} ({name})", limit, alone))
    return [plot for plot in plots if plot.curves]


def training_plots(info: FrontierInfo, measured: Mapping[str, Sequence[Measurement]]) -> list[Plot]:
    """Return the losses and the adapter norms that were measured."""
    plots = [_plot(info, measured, name, title) for name, title in {**LOSSES, **NORMS}.items()]
    return [plot for plot in plots if any(value for curve in plot.curves for _, value in curve.points)]


def _plot(
    info: FrontierInfo,
    measured: Mapping[str, Sequence[Measurement]],
    metric: str,
    title: str,
    limit: float | None = None,
    baseline: float | None = None,
) -> Plot:
    curves = []
    for result in sorted(info.results, key=lambda one: one.placement.label):
        by_step: dict[int, list[float]] = {}
        for seed_run in result.placement.seed_runs if not result.placement.is_baseline else ():
            for one in measured.get(seed_run.trial.run_id, ()):
                if metric in one.metrics and one.scale == "1":
                    by_step.setdefault(one.step, []).append(one.metrics[metric])
        points = tuple((step, sum(values) / len(values)) for step, values in sorted(by_step.items()))
        if points:
            curves.append(ArmCurve(result.placement.label, points))
    return Plot(metric, title, METRICS[metric].unit if metric in METRICS else "", tuple(curves), limit, baseline)
