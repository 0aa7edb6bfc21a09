"""Draws the chart as a PNG with matplotlib; no display is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analysis.charts.chart import STYLES, Chart, Mark, axis_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 11.0, 6.8, 150
LEFT, BOTTOM, RIGHT, TOP = 0.07, 0.19, 0.985, 0.92  # of the figure
FONT_POINTS = 8.5
INK, FAINT = "#222222", "#D9D9D9"


def write_png(chart: Chart, path: Path) -> None:
    """Draw the chart into a file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=LEFT, bottom=BOTTOM, right=RIGHT, top=TOP)
    axes = figure.subplots()
    _draw_frame(axes, chart)
    _draw_marks(axes, chart)
    _draw_labels(axes, chart)
    handles, texts = axes.get_legend_handles_labels()
    figure.legend(handles, texts, loc="lower center", ncols=4, frameon=False, fontsize=FONT_POINTS)
    figure.savefig(path)


def _draw_frame(axes: Axes, chart: Chart) -> None:
    axes.set(xlim=chart.x_range, ylim=chart.y_range)
    # names come from files; a dollar sign in them must not start mathematics
    axes.set_title(chart.title, loc="left", fontsize=12, color=INK, pad=12, parse_math=False)
    axes.set_xlabel(axis_title(chart.x), color=INK)
    axes.set_ylabel(axis_title(chart.y), color=INK)
    axes.grid(color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if chart.floor is not None:
        label = f"guard: {chart.x.name} {chart.floor:g}"
        axes.axvline(chart.floor, color="#D55E00", linestyle=(0, (5, 4)), linewidth=1.2, label=label)
    if chart.step:
        xs, ys = zip(*chart.step, strict=True)
        axes.plot(xs, ys, color=STYLES["frontier"].colour, linewidth=1.6, alpha=0.7, label="frontier")
    if chart.seeds:
        xs, ys = zip(*chart.seeds, strict=True)
        axes.scatter(xs, ys, s=12, color="#9CC7E0", linewidths=0, label="one seed", zorder=2)


def _draw_marks(axes: Axes, chart: Chart) -> None:
    for kind, style in STYLES.items():
        marks = [mark for mark in chart.marks if mark.kind == kind]
        if not marks:
            continue
        edge = {} if style.matplotlib_marker in "x+" else {"edgecolors": "white", "linewidths": 0.8}
        axes.scatter(
            [mark.x for mark in marks],
            [mark.y for mark in marks],
            s=style.points**2,
            c=style.colour,
            marker=style.matplotlib_marker,
            label=style.legend,
            zorder=4,
            **edge,
        )
    spread = [mark for mark in chart.marks if mark.spans]
    for index, mark in enumerate(spread):
        _draw_spans(axes, mark, "spread over seeds" if index == 0 else None)


def _draw_spans(axes: Axes, mark: Mark, label: str | None) -> None:
    if mark.spans is None:
        return
    (left, right), (low, high) = mark.spans
    axes.errorbar(
        mark.x,
        mark.y,
        xerr=[[mark.x - left], [right - mark.x]],
        yerr=[[mark.y - low], [high - mark.y]],
        fmt="none",
        ecolor=STYLES[mark.kind].colour,
        elinewidth=1.2,
        capsize=3,
        label=label,
        zorder=3,
    )


def _draw_labels(axes: Axes, chart: Chart) -> None:
    area = (WIDTH_INCHES * 72 * (RIGHT - LEFT), HEIGHT_INCHES * 72 * (TOP - BOTTOM))
    offsets = chart.label_offsets(area, (FONT_POINTS * 0.6, FONT_POINTS * 1.25))
    for mark, offset in zip(chart.marks, offsets, strict=True):
        if not mark.label:
            continue
        axes.annotate(
            mark.label,
            (mark.x, mark.y),
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=FONT_POINTS,
            fontweight="bold" if mark.kind == "frontier" else "normal",
            color="#7A7A7A" if mark.kind in ("excluded", "running") else INK,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 5},
            zorder=5,
        )
