"""Draws the losses of one trial as PDF; the same record always gives the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.charts.chart import STYLES
from analysis.charts.drawing import INK
from trainables.record import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes


WIDTH_INCHES, HEIGHT_INCHES = 8.0, 4.6
EMBEDDED_TRUETYPE = 42  # text that can be searched and copied
BASELINE, BEST = STYLES["baseline"], STYLES["frontier"]
SECOND_COLOUR = "#009E73"  # Okabe & Ito's green


@dataclass(frozen=True)
class Curve:
    """One line: steps and nats per token."""

    name: str
    colour: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class LossPlot:
    """The curves, the baseline's loss (nats per token, a horizontal line), and the step of the kept adapter."""

    title: str
    curves: tuple[Curve, ...]
    baseline: float | None
    best_step: int | None


def training_plot(name: str, measured: Sequence[Measurement]) -> LossPlot:
    """Plot the mean training loss of each interval, and the loss of the fixed training rows at each eval."""
    interval = Curve("mean of the steps since the last eval, dropout on", BEST.colour, _points(measured, "step_loss"))
    fixed = Curve("fixed training rows, dropout off", SECOND_COLOUR, _points(measured, "train_loss"))
    return LossPlot(f"{name}: training loss", tuple(one for one in (interval, fixed) if one.points), None, None)


def eval_plot(name: str, measured: Sequence[Measurement], baseline: float, best_step: int | None) -> LossPlot:
    """Plot the loss on the validation rows, and the baseline's loss."""
    curve = Curve("validation rows", BEST.colour, _points(measured, "eval_loss"))
    return LossPlot(f"{name}: eval loss", (curve,), baseline, best_step)


def write_pdf(plot: LossPlot, path: Path) -> None:
    """Draw a plot into a file."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), facecolor="white", layout="constrained")
    FigureCanvasPdf(figure)
    _draw(figure.subplots(), plot)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"pdf.fonttype": EMBEDDED_TRUETYPE}):
        figure.savefig(path, metadata={"CreationDate": None})


def _draw(axes: Axes, plot: LossPlot) -> None:
    from matplotlib.ticker import MaxNLocator

    # names come from files; a dollar sign in them must not start mathematics
    axes.set_title(plot.title, loc="left", fontsize=12, color=INK, pad=12, parse_math=False)
    axes.set_xlabel("optimizer step", color=INK)
    axes.set_ylabel("nats per token, lower is better", color=INK)
    axes.grid(color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for curve in plot.curves:
        steps, values = zip(*curve.points, strict=True)
        axes.plot(steps, values, color=curve.colour, linewidth=1.6, marker="o", markersize=5, label=curve.name)
    if plot.baseline is not None:
        axes.axhline(plot.baseline, color=BASELINE.colour, linestyle=(0, (5, 4)), linewidth=1.2,
                     label=f"base alone, {plot.baseline:.3f}")  # fmt: skip
    kept = [(s, v) for curve in plot.curves for s, v in curve.points if s == plot.best_step]
    for step, value in kept:
        axes.scatter([step], [value], s=140, facecolors="none", edgecolors=INK, linewidths=1.4, zorder=5,
                     label=f"kept: step {step}, {value:.3f}")  # fmt: skip
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=8.5)


def _points(measured: Sequence[Measurement], name: str) -> tuple[tuple[int, float], ...]:
    return tuple((one.step, one.metrics[name]) for one in measured if name in one.metrics)
