"""Draws pictures as SVG inside of a page: they follow its colours, and their marks have texts that show on hover."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from analysis.charts.chart import axis_title
from analysis.charts.colours import PAGE_COLOURS
from analysis.charts.drawing import FAINT, GRID, INK, QUIET, draw_chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.charts.chart import Chart


DESCRIBED = 12  # marks; a table has them all
SALT = "footprint"  # of the ids in the file, which are then the same every time
# colours that a page sets for light and dark
ON_PAGE = {INK: "currentColor", FAINT: "var(--faint, #d9d9d9)", GRID: "var(--grid, #eeeeee)",
           "#000000": "currentColor", QUIET: "var(--quiet, #6a6a6a)",
           **{drawn: f"var({name}, {light})" for drawn, (name, light, _) in PAGE_COLOURS.items()}}  # fmt: skip
DRAWN = re.compile("|".join(map(re.escape, ON_PAGE)), re.IGNORECASE)


def chart_svg(chart: Chart, width_inches: float, height_inches: float) -> str:
    """Return the chart as an `svg` element; every mark says on hover what it is."""
    figure = new_figure(width_inches, height_inches)
    hover = draw_chart(figure, chart, (width_inches, height_inches))
    return as_svg(figure, described(chart), hover, salt=f"{width_inches:g}")


def described(chart: Chart) -> str:
    """Return what the chart shows, for readers who cannot see it; the tables of the page have every number."""
    found = [one for one in chart.marks if one.kind in ("frontier", "baseline") and one.label]
    named = "; ".join(f"{one.label} at {one.x:.3g}, {one.y:.3g}" for one in found[:DESCRIBED])
    more = f"; and {len(found) - DESCRIBED} more" if len(found) > DESCRIBED else ""
    axes = f"Scatter plot, across {axis_title(chart.x)}, up {axis_title(chart.y)}"
    return f"{chart.title}. {axes}. On the frontier, and the baseline: {named or 'none'}{more}. Tables below."


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Return an empty figure without a background, drawn without a display."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), facecolor="none")
    FigureCanvasSVG(figure)
    return figure


def as_svg(figure: Figure, description: str, hover: Mapping[str, str] | None = None, salt: str = "") -> str:
    """Return a figure as an `svg` element that fills the width it is given.

    Args:
        figure: what is drawn; texts stay texts, in the page's font.
        description: what the picture shows, for readers who cannot see it.
        hover: the text of each element that has this `gid`.
        salt: tells apart the ids of two pictures with one description.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": f"{SALT} {description} {salt}", "font.family": "sans-serif"}
    ):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = DRAWN.sub(lambda found: ON_PAGE[found.group().upper()], text)
    head = f'<svg role="img" aria-label="{escape(description)}" '
    text = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'{head}\1 xmlns="http://www.w3.org/2000/svg" '
                  r'xmlns:xlink="http://www.w3.org/1999/xlink">', text, count=1)  # fmt: skip
    for gid, words in (hover or {}).items():
        text = text.replace(f'<g id="{gid}">', f'<g id="{gid}"><title>{escape(words)}</title>', 1)
    # matplotlib numbers groups alike in every figure, and nothing refers to them
    return re.sub(r'<g id="[^"]*"', "<g", text)
