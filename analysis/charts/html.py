"""Writes the chart as one HTML file that needs no network and no script."""

from __future__ import annotations

from pathlib import Path

from analysis import templates
from analysis.charts.chart import Chart, chart_of
from analysis.charts.svg import chart_svg
from analysis.frontier import FrontierInfo
from analysis.report.conclusions import conclusion, footnotes, unknowns
from analysis.report.tables import reach_rows, text_table

WIDE_INCHES, NARROW_INCHES = (10.0, 6.2), (4.9, 6.6)


def write_page(info: FrontierInfo, path: Path, chart: Chart | None = None) -> None:
    """Write the chart, the table of all placements and the conclusion into one file."""
    from markupsafe import Markup

    drawn = chart or chart_of(info)
    header, rows = text_table(info)
    text = templates.html(
        "analysis.charts",
        "pareto.html",
        title=drawn.title,
        conclusion=" ".join(conclusion(info)),
        # matplotlib's own SVG; the texts in it are escaped there
        wide=Markup(chart_svg(drawn, *WIDE_INCHES)),  # noqa: S704
        narrow=Markup(chart_svg(drawn, *NARROW_INCHES)),  # noqa: S704
        noun=info.noun,
        header=header,
        rows=[(result.on_frontier, row) for result, row in zip(info.results, rows, strict=True)],
        paths=drawn.paths,
        reached=reach_rows(info),
        x=drawn.x.name,
        y=drawn.y.name,
        footnotes=footnotes(info),
        unknowns=unknowns(info),
    )
    path.write_text(text, encoding="utf-8")
