"""Draws the chart with matplotlib, for the PNG and for pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.charts.chart import STYLES, Chart, Mark, axis_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FONT_POINTS = 8.5
INK, FAINT, GRID, QUIET = "#222222", "#D9D9D9", "#EEEEEE", "#7A7A7A"
LIMIT_COLOUR, PATH_COLOUR, SEED_COLOUR = "#D55E00", "#A8A8A8", "#9CC7E0"
PICK_COLOUR, PICK_POINTS, LEGEND_POINTS = "#009E73", 18.0, 10.0
DASHES = ((0, (5, 4)), (0, (1, 2)))
LEFT_POINTS, RIGHT_POINTS, TOP_POINTS = 50.0, 10.0, 14.0
LEGEND_ROW_POINTS, AXIS_TITLE_POINTS, LEGEND_ENTRY_POINTS = 15.0, 42.0, 175.0


def draw_chart(figure: Figure, chart: Chart, size_inches: tuple[float, float]) -> dict[str, str]:
    """Draw the chart into an empty figure; return what each mark says on hover, by the `gid` of its element."""
    width, height = (72 * inches for inches in size_inches)
    columns = max(1, int(width // LEGEND_ENTRY_POINTS))
    axes = figure.subplots()
    _draw_frame(axes, chart)
    hover = _draw_marks(axes, chart)
    handles, texts = axes.get_legend_handles_labels()
    bottom = AXIS_TITLE_POINTS + LEGEND_ROW_POINTS * -(-len(handles) // columns)
    figure.subplots_adjust(
        left=LEFT_POINTS / width, right=1 - RIGHT_POINTS / width, bottom=bottom / height, top=1 - TOP_POINTS / height
    )
    area = (width - LEFT_POINTS - RIGHT_POINTS, height - bottom - TOP_POINTS)
    _draw_labels(axes, chart, area)
    figure.legend(handles, texts, loc="lower center", ncols=columns, frameon=False, fontsize=FONT_POINTS)
    return hover


def _draw_frame(axes: Axes, chart: Chart) -> None:
    axes.set(xlim=chart.x_range, ylim=chart.y_range)
    axes.set_xlabel(axis_title(chart.x), color=INK, fontsize=FONT_POINTS + 1)
    axes.set_ylabel(axis_title(chart.y), color=INK, fontsize=FONT_POINTS + 1)
    axes.tick_params(labelsize=FONT_POINTS, colors=INK)
    axes.set_facecolor("none")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    for limit, dashes in zip(chart.limits, DASHES * len(chart.limits), strict=False):
        label = f"{limit.name}: {chart.x.name} {limit.value:.3g}"
        axes.axvline(limit.value, color=LIMIT_COLOUR, linestyle=dashes, linewidth=1.2, label=label)
    if chart.reached:
        _draw_band(axes, chart)
    if chart.step:
        xs, ys = zip(*chart.step, strict=True)
        axes.plot(xs, ys, color=STYLES["frontier"].colour, linewidth=1.6, alpha=0.7, label="frontier of the means")
    for number, path in enumerate(chart.paths):
        xs, ys = zip(*path.points, strict=True)
        label = "an arm in training, a dot an eval" if number == 0 else None
        axes.plot(xs, ys, color=PATH_COLOUR, linewidth=0.8, marker=".", markersize=4, label=label, zorder=1)
    if chart.seeds:
        xs, ys = zip(*chart.seeds, strict=True)
        axes.scatter(xs, ys, s=12, color=SEED_COLOUR, linewidths=0, label="one seed", zorder=2)


def _draw_band(axes: Axes, chart: Chart) -> None:
    surely, median, at_most = chart.reached
    colour = STYLES["frontier"].colour
    xs, ys = zip(*surely, *reversed(at_most), strict=True)
    axes.fill(xs, ys, color=colour, alpha=0.12, linewidth=0, label="95 % band of the frontier", zorder=0.5)
    xs, ys = zip(*median, strict=True)
    axes.plot(xs, ys, color=colour, linewidth=1.1, linestyle=(0, (1, 1)), label="reached in half of the draws")


def _draw_marks(axes: Axes, chart: Chart) -> dict[str, str]:
    hover, named = {}, set()
    for number, mark in enumerate(chart.marks):
        style = STYLES[mark.kind]
        edge = {} if style.matplotlib_marker in "x+" else {"edgecolors": "white", "linewidths": 0.8}
        drawn = axes.scatter(
            [mark.x], [mark.y], s=style.points**2, c=style.colour, marker=style.matplotlib_marker, zorder=4,
            label=None if mark.kind in named else style.legend, **edge,
        )  # fmt: skip
        named.add(mark.kind)
        drawn.set_gid(f"mark-{number}")
        hover[f"mark-{number}"] = mark.hover
    if chart.pick is not None:
        ring = {"facecolors": "none", "edgecolors": PICK_COLOUR, "linewidths": 2.0}
        axes.scatter([chart.pick.x], [chart.pick.y], s=PICK_POINTS**2, zorder=4.5, **ring)
        axes.scatter([], [], s=LEGEND_POINTS**2, label=chart.pick.legend, **ring)
    for index, mark in enumerate(mark for mark in chart.marks if mark.spans):
        _draw_spans(axes, mark, "interval, or range of two seeds" if index == 0 else None)
    return hover


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


def _draw_labels(axes: Axes, chart: Chart, area: tuple[float, float]) -> None:
    offsets = chart.label_offsets(area, (FONT_POINTS * 0.6, FONT_POINTS * 1.25))
    for mark, offset in zip(chart.marks, offsets, strict=True):
        if offset is None:
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
            color=QUIET if mark.kind in ("excluded", "running") else INK,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 5},
            zorder=5,
        )
