"""Writes the chart as one HTML file that needs no network: plotly's script is inlined."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import templates
from analysis.charts.chart import STYLES, Chart, axis_title, chart_of
from analysis.frontier import FrontierInfo
from analysis.report.conclusions import conclusion, footnotes, unknowns
from analysis.report.tables import text_table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


WIDTH_PIXELS, HEIGHT_PIXELS = 1120, 680
MARGIN = {"l": 70, "r": 20, "t": 20, "b": 120}
FONT_PIXELS = 12


def write_page(info: FrontierInfo, path: Path) -> None:
    """Write the interactive chart, the table of all placements and the conclusion into one file."""
    from markupsafe import Markup

    chart = chart_of(info)
    header, rows = text_table(info)
    figure = figure_of(chart).to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
    text = templates.html(
        "analysis.charts",
        "pareto.html",
        title=chart.title,
        width=WIDTH_PIXELS,
        conclusion=" ".join(conclusion(info)),
        figure=Markup(figure),  # noqa: S704 plotly's own HTML; the texts in it are escaped below
        header=header,
        rows=[(result.on_frontier, row) for result, row in zip(info.results, rows, strict=True)],
        footnotes=footnotes(info),
        unknowns=unknowns(info),
    )
    path.write_text(text, encoding="utf-8")


def figure_of(chart: Chart) -> Figure:
    """Build the plotly figure."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    if chart.step:
        xs, ys = zip(*chart.step, strict=True)
        line = {"color": STYLES["frontier"].colour, "width": 2}
        figure.add_trace(Scatter(x=xs, y=ys, mode="lines", name="frontier", line=line, hoverinfo="skip", opacity=0.7))
    if chart.seeds:
        xs, ys = zip(*chart.seeds, strict=True)
        dots = {"size": 5, "color": "#9CC7E0"}
        figure.add_trace(Scatter(x=xs, y=ys, mode="markers", name="one seed", marker=dots, hoverinfo="skip"))
    for kind in STYLES:
        if any(mark.kind == kind for mark in chart.marks):
            figure.add_trace(Scatter(**_trace(chart, kind)))
    if chart.floor is not None:
        figure.add_vline(
            chart.floor,
            line={"color": "#D55E00", "dash": "dash", "width": 1.5},
            annotation={"text": f"guard {chart.floor:g}", "font": {"color": "#D55E00", "size": FONT_PIXELS}},
        )
    figure.update_layout(
        template="plotly_white",
        width=WIDTH_PIXELS,
        height=HEIGHT_PIXELS,
        margin=MARGIN,
        xaxis={"title": axis_title(chart.x), "range": chart.x_range, "zeroline": False},
        yaxis={"title": axis_title(chart.y), "range": chart.y_range, "zeroline": False},
        legend={"orientation": "h", "y": -0.12},
    )
    _annotate(figure, chart)
    return figure


def _trace(chart: Chart, kind: Any) -> dict[str, Any]:
    style = STYLES[kind]
    marks = [mark for mark in chart.marks if mark.kind == kind]
    trace = {
        "x": [mark.x for mark in marks],
        "y": [mark.y for mark in marks],
        "mode": "markers",
        "name": style.legend,
        "marker": {"color": style.colour, "symbol": style.plotly_symbol, "size": style.points + 2},
        "hovertext": [escape(mark.hover).replace("\n", "<br>") for mark in marks],
        "hoverinfo": "text",
    }
    for axis, column in (("x", 0), ("y", 1)):
        centre = trace[axis]
        spans = [
            mark.spans[column] if mark.spans else (value, value) for mark, value in zip(marks, centre, strict=True)
        ]
        if any(mark.spans for mark in marks):
            trace[f"error_{axis}"] = {
                "type": "data",
                "symmetric": False,
                "array": [high - value for (_, high), value in zip(spans, centre, strict=True)],
                "arrayminus": [value - low for (low, _), value in zip(spans, centre, strict=True)],
                "thickness": 1.5,
                "width": 0,
            }
    return trace


def _annotate(figure: Figure, chart: Chart) -> None:
    area = (WIDTH_PIXELS - MARGIN["l"] - MARGIN["r"], HEIGHT_PIXELS - MARGIN["t"] - MARGIN["b"])
    offsets = chart.label_offsets(area, (FONT_PIXELS * 0.6, FONT_PIXELS * 1.3))
    for mark, (right, up) in zip(chart.marks, offsets, strict=True):
        if mark.label:
            figure.add_annotation(
                x=mark.x,
                y=mark.y,
                ax=right,
                ay=-up,
                text=escape(mark.label),
                font={"size": FONT_PIXELS, "color": "#777" if mark.kind in ("excluded", "running") else "#222"},
                arrowcolor="#D9D9D9",
                arrowhead=0,
                arrowwidth=1,
                standoff=6,
            )
