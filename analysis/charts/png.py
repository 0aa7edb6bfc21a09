"""Draws the chart as a PNG; no display is needed."""

from __future__ import annotations

from pathlib import Path

from analysis.charts.chart import Chart
from analysis.charts.drawing import INK, draw_chart

WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 11.0, 6.8, 150


def write_png(chart: Chart, path: Path) -> None:
    """Draw the chart with its title into a file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    draw_chart(figure, chart, (WIDTH_INCHES, HEIGHT_INCHES))
    # names come from files; a dollar sign in them must not start mathematics
    figure.axes[0].set_title(chart.title, loc="left", fontsize=12, color=INK, pad=12, parse_math=False)
    figure.savefig(path, bbox_inches="tight")  # the title lies above the figure
