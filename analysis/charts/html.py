"""Writes the chart as one HTML file that needs no network and no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import templates
from analysis.charts.chart import Chart, chart_of
from analysis.charts.colours import variables
from analysis.charts.svg import chart_svg
from analysis.frontier import FrontierInfo
from analysis.report.conclusions import conclusion, footnotes, unknowns
from analysis.report.plain_words import WORDS, plain_words
from analysis.report.tables import reach_rows, text_table

if TYPE_CHECKING:
    from markupsafe import Markup

WIDE_INCHES, NARROW_INCHES = (10.0, 6.2), (4.9, 6.6)
MAX_BYTES = 2 * 10**6
SHOWN = (None, 300, 100)  # placements on a page, and in its pictures; fewer where the page would be too large


def write_page(info: FrontierInfo, path: Path, chart: Chart | None = None) -> None:
    """Write the chart, the table of all placements and the conclusion into one file of less than 2 MB.

    A page that would be larger leaves out the paths of the arms, and the placements after the first hundreds; it says
    so. `pareto.csv` has all.
    """
    drawn = chart or chart_of(info)
    for most in SHOWN:
        text = _page(info, drawn if most is None else _fewer(drawn, most), most)
        if len(text.encode()) < MAX_BYTES:
            break
    path.write_text(text, encoding="utf-8")


def page_style() -> Markup:
    """Return the style of a page, with its colours on light and on dark paper."""
    from markupsafe import Markup

    style = templates.html("analysis.charts", "style.css", light=variables(dark=False), dark=variables(dark=True))
    return Markup(style)  # noqa: S704 our own file


def plain_section(sentences: Sequence[str]) -> Markup:
    """Return the section for readers who do not know the field, with the words that the page uses."""
    from markupsafe import Markup

    text = templates.html("analysis.charts", "plain.html", sentences=sentences, words=WORDS)
    return Markup(text)  # noqa: S704 its values are escaped


def chart_pictures(chart: Chart) -> dict[str, Markup]:
    """Return the chart for wide and for narrow windows, of which a page shows one."""
    from markupsafe import Markup

    # matplotlib's own SVG; the texts in it are escaped there
    return {"wide": Markup(chart_svg(chart, *WIDE_INCHES)), "narrow": Markup(chart_svg(chart, *NARROW_INCHES))}  # noqa: S704


def _page(info: FrontierInfo, drawn: Chart, most: int | None) -> str:
    header, rows = text_table(info)
    pairs = list(zip(info.results, rows, strict=True))
    shown = sorted(pairs, key=lambda pair: not pair[0].on_frontier)[:most] if most else pairs
    return templates.html(
        "analysis.charts",
        "pareto.html",
        title=drawn.title,
        conclusion=" ".join(conclusion(info)),
        style=page_style(),
        plain=plain_section(plain_words(info)),
        **chart_pictures(drawn),
        noun=info.noun,
        header=header,
        rows=[(result.on_frontier, row) for result, row in shown],
        left_out=len(pairs) - len(shown),
        paths=drawn.paths,
        reached=reach_rows(info),
        x=drawn.x,
        y=drawn.y,
        footnotes=footnotes(info),
        unknowns=unknowns(info),
    )


def _fewer(chart: Chart, most: int) -> Chart:
    ranked = sorted(chart.marks, key=lambda mark: mark.kind not in ("frontier", "baseline"))
    return replace(chart, marks=tuple(ranked[:most]), seeds=(), paths=())
