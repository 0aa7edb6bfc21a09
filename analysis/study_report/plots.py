"""Draws the curves as SVG."""

from __future__ import annotations

from analysis.charts.drawing import GRID, INK, LIMIT_COLOUR
from analysis.charts.svg import as_svg, new_figure
from analysis.study_report.curves import Plot

WIDTH_INCHES, HEIGHT_INCHES, FONT_POINTS = 4.9, 3.4, 9.0
LEGEND_COLUMNS, LEGEND_ROW_INCHES, AXES_INCHES = 4, 0.2, 2.6
# Okabe and Ito's, without yellow, which light paper hides, and black, which dark paper hides; then again with dashes
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ((0, ()), (0, (5, 2)), (0, (1, 1.5)))
BASELINE_DASHES = (0, (1, 3))


def plot_svg(plot: Plot) -> str:
    """Return a plot of a metric over optimizer steps."""
    from matplotlib.ticker import MaxNLocator

    entries = len(plot.curves) + (plot.limit is not None) + (plot.baseline is not None)
    below = 0.55 + LEGEND_ROW_INCHES * -(-entries // LEGEND_COLUMNS)
    height = AXES_INCHES + below
    figure = new_figure(WIDTH_INCHES, height)
    axes = figure.subplots()
    axes.set_facecolor("none")
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(labelsize=FONT_POINTS, colors=INK)
    axes.set_xlabel("optimizer step", color=INK, fontsize=FONT_POINTS)
    axes.set_ylabel(plot.unit, color=INK, fontsize=FONT_POINTS)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for number, curve in enumerate(plot.curves):
        steps, values = zip(*curve.points, strict=True)
        dashes = DASHES[number // len(COLOURS) % len(DASHES)]
        # a name with an underscore at its start would be left out of the legend
        axes.plot(steps, values, color=COLOURS[number % len(COLOURS)], linestyle=dashes, linewidth=1.6,
                  marker=MARKERS[number % len(MARKERS)], markersize=4.5, label=f"\u200b{curve.arm}")  # fmt: skip
    if plot.limit is not None:
        axes.axhline(plot.limit, color=LIMIT_COLOUR, linestyle=(0, (5, 4)), label=f"limit {plot.limit:.3g}")
    if plot.baseline is not None:
        axes.axhline(plot.baseline, color=INK, linestyle=BASELINE_DASHES, label=f"base alone {plot.baseline:.3g}")
    figure.subplots_adjust(left=0.13, right=0.98, top=0.96, bottom=below / height)
    handles, texts = axes.get_legend_handles_labels()
    figure.legend(handles, texts, loc="lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=FONT_POINTS - 1,
                  labelcolor=INK, handlelength=1.6, columnspacing=1.0)  # fmt: skip
    return as_svg(figure, described(plot))


def described(plot: Plot) -> str:
    """Return what a plot shows, for readers who cannot see it; the table below it has every number."""
    ends = "; ".join(
        f"{one.arm} from {one.points[0][1]:.3g} at step {one.points[0][0]} to {one.points[-1][1]:.3g} at step "
        f"{one.points[-1][0]}"
        for one in plot.curves
    )
    limit = f" The limit is {plot.limit:.3g}." if plot.limit is not None else ""
    return f"Lines over optimizer steps: {plot.title}. {ends}.{limit} Table below."
