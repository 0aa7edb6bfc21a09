"""Draws pictures as SVG inside of a page: they follow its colours, and their marks have texts that show on hover."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from analysis.charts.drawing import FAINT, GRID, INK, QUIET, draw_chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.charts.chart import Chart


SALT = "footprint"  # of the ids in the file, which are then the same every time
# colours that a page sets for light and dark
PAGE_COLOURS = {INK: "currentColor", FAINT: "var(--faint, #d9d9d9)", GRID: "var(--grid, #eeeeee)",
                "#000000": "currentColor", QUIET: "var(--quiet, #6a6a6a)"}  # fmt: skip


def chart_svg(chart: Chart, width_inches: float, height_inches: float) -> str:
    """Return the chart as an `svg` element; every mark says on hover what it is."""
    figure = new_figure(width_inches, height_inches)
    hover = draw_chart(figure, chart, (width_inches, height_inches))
    return as_svg(figure, f"{chart.title}, {width_inches:g} inches wide", hover)


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Return an empty figure without a background, drawn without a display."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), facecolor="none")
    FigureCanvasSVG(figure)
    return figure


def as_svg(figure: Figure, description: str, hover: Mapping[str, str] | None = None) -> str:
    """Return a figure as an `svg` element that fills the width it is given.

    Args:
        figure: what is drawn; texts stay texts, in the page's font.
        description: what the picture shows, for readers who cannot see it.
        hover: the text of each element that has this `gid`.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": f"{SALT} {description}", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for drawn, colour in PAGE_COLOURS.items():
        text = re.sub(re.escape(drawn), colour, text, flags=re.IGNORECASE)
    head = f'<svg role="img" aria-label="{escape(description)}" '
    text = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'{head}\1 xmlns="http://www.w3.org/2000/svg" '
                  r'xmlns:xlink="http://www.w3.org/1999/xlink">', text, count=1)  # fmt: skip
    for gid, words in (hover or {}).items():
        text = text.replace(f'<g id="{gid}">', f'<g id="{gid}"><title>{escape(words)}</title>', 1)
    # matplotlib numbers groups alike in every figure, and nothing refers to them
    return re.sub(r'<g id="[^"]*"', "<g", text)
