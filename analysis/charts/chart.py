"""The chart as plain values, which matplotlib draws as PNG and as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from analysis.charts.labels import place_labels
from analysis.frontier import FIT, FrontierInfo, Kind, PlacementResult
from analysis.placements import SeedRun
from analysis.probabilities import percent
from analysis.report.conclusions import full_label, marked_label, values_of
from analysis.uncertainty import Estimate
from trainables.pareto import Objective, as_costs, directions_of

SPARSE = 16  # so few marks may have labels far from them; of more, only those that matter most

Span = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """The look of a kind of mark; colours are Okabe and Ito's, safe for colour-blind readers, and shapes differ too."""

    legend: str
    colour: str
    matplotlib_marker: str
    points: float


STYLES: dict[Kind, Style] = {
    "frontier": Style("on the frontier", "#0072B2", "o", 10),
    "baseline": Style("baseline (no adapter)", "#D55E00", "*", 16),
    "dominated": Style("dominated", "#56B4E9", "s", 8),
    "gain outside the constraint": Style("gain outside the constraint", "#E69F00", "^", 8),
    "no gain": Style("gains nothing over the baseline", "#CC79A7", "D", 8),
    "excluded": Style("not admissible (last eval)", "#8C8C8C", "x", 8),
    "running": Style("running (last eval)", "#8C8C8C", "+", 8),
}


@dataclass(frozen=True)
class Mark:
    """One placement, or one trial of a placement that is not admissible; `spans` are error bars in x and y."""

    kind: Kind
    x: float
    y: float
    label: str
    hover: str
    spans: tuple[Span, Span] | None = None


@dataclass(frozen=True)
class Limit:
    """A limit on the first objective: what must hold, and the value."""

    name: str
    value: float


@dataclass(frozen=True)
class CandidatePath:
    """The candidates of one arm in order of their steps, as (x, y): where the arm went while it trained."""

    arm: str
    steps: tuple[int, ...]
    points: tuple[tuple[float, float], ...]

    @property
    def rows(self) -> list[tuple[int, tuple[float, float]]]:
        """Return each step with its point."""
        return list(zip(self.steps, self.points, strict=True))


@dataclass(frozen=True)
class PickMark:
    """Where the pick lies, which can be another eval of its arm than the one that stands for it."""

    legend: str
    x: float
    y: float


@dataclass(frozen=True)
class Chart:
    """A scatter plot of the first two objectives; `seeds` are the trials of a mean, `step` the frontier's edge.

    `reached` are the edges of what the frontier reaches in 97.5 %, in half and in 2.5 % of the draws, each as (x, y);
    empty where there are no draws.
    """

    title: str
    x: Objective
    y: Objective
    marks: tuple[Mark, ...]
    seeds: tuple[tuple[float, float], ...]
    step: tuple[tuple[float, float], ...]
    limits: tuple[Limit, ...]
    paths: tuple[CandidatePath, ...]
    x_range: Span
    y_range: Span
    reached: tuple[tuple[tuple[float, float], ...], ...] = ()
    pick: PickMark | None = None

    def label_offsets(
        self, area: tuple[float, float], character: tuple[float, float]
    ) -> list[tuple[float, float] | None]:
        """Return the offset of each mark's label on an area of this size, None without room; see `place_labels`."""
        points = [
            (_along(mark.x, self.x_range) * area[0], _along(mark.y, self.y_range) * area[1]) for mark in self.marks
        ]
        is_sparse = len(self.marks) <= SPARSE
        far = [is_sparse or mark.kind in ("frontier", "baseline") for mark in self.marks]
        return place_labels(points, [mark.label for mark in self.marks], area, character, far)


def chart_of(info: FrontierInfo, limits: Sequence[Limit] = (), paths: Sequence[CandidatePath] = ()) -> Chart:
    """Return the chart of the first two objectives (x, y), with limits on x and the paths of arms, where known."""
    x, y = info.objectives[:2]
    marks = tuple(mark for result in info.results for mark in _marks(result, info))
    seeds = tuple(
        (seed_run.values[0], seed_run.values[FIT])
        for result in info.results
        for seed_run in result.placement.admissible()
        if len(result.placement.seed_runs) > 1
    )
    shown = tuple(limits) or ((Limit("guard", info.floor),) if info.floor is not None else ())
    along = [point for path in paths for point in path.points]
    found = len(info.of_kind("frontier"))
    corners = [point for one in info.attained.surfaces for point in one.points] if info.attained else []
    pick = _pick_mark(info)
    placed = [*marks, *([pick] if pick else [])]
    x_range = _range([mark.x for mark in placed] + [one.value for one in shown] + [x for x, _ in (*along, *corners)])
    y_range = _range([mark.y for mark in placed] + [y for _, y in (*along, *corners)])
    return Chart(
        title=f"{info.experiment}: {found} of {len(info.results)} {info.noun}s on the frontier of {y.name}, {x.name}",
        x=x,
        y=y,
        marks=marks,
        seeds=seeds,
        step=_step(info),
        limits=shown,
        paths=tuple(paths),
        x_range=x_range,
        y_range=y_range,
        reached=_edges(info, x_range, y_range),
        pick=pick,
    )


def _pick_mark(info: FrontierInfo) -> PickMark | None:
    """Return the mark of the pick, None where nothing is picked or an objective is not known of it."""
    choice = info.choice
    if choice is None or choice.picked is None:
        return None
    known = choice.picked.estimates
    x, y = (known.get(one.name) for one in info.objectives[:2])
    if x is None or y is None:
        return None
    return PickMark(f"the pick{'' if choice.is_settled else ', undecided'}: {choice.picked.name}", x.mean, y.mean)


def staircase(costs: np.ndarray) -> np.ndarray:
    """Return the edge of the region that the points (points, 2) dominate, as a polyline (corners, 2) in costs.

    No point may dominate another.
    """
    ordered = np.unique(costs, axis=0)
    corners = [ordered[0]]
    for previous, point in pairwise(ordered):
        corners += [np.maximum(previous, point), point]
    return np.array(corners)


def axis_title(objective: Objective) -> str:
    """Return the title of an axis: `exact_match (fraction, higher is better)`."""
    unit = f"{objective.unit}, " if objective.unit else ""
    return f"{objective.name} ({unit}{objective.direction} is better)"


def _marks(result: PlacementResult, info: FrontierInfo) -> Iterator[Mark]:
    label = full_label(result)
    if result.estimates:
        x, y = result.estimates[0], result.estimates[FIT]
        spans = (_span(x), _span(y)) if x.seeds > 1 or y.low is not None else None
        yield Mark(result.kind, x.mean, y.mean, label, _hover(result, info), spans)
        return
    names = [info.objectives[0].name, info.objectives[FIT].name]
    for seed_run in result.placement.seed_runs:
        x_value, y_value = (_last(seed_run, name) for name in names)
        if math.isfinite(x_value) and math.isfinite(y_value):
            hover = f"{label}\nseed {seed_run.seed}: {seed_run.reason or 'completed'}"
            yield Mark(result.kind, x_value, y_value, label, hover)
            label = ""


def _last(seed_run: SeedRun, name: str) -> float:
    return seed_run.trial.last.get(name, math.nan)


def _span(one: Estimate) -> Span:
    return (one.minimum, one.maximum) if one.low is None or one.high is None else (one.low, one.high)


def _hover(result: PlacementResult, info: FrontierInfo) -> str:
    pairs = zip(info.objectives, values_of(result, info), strict=True)
    values = [f"{objective.name}: {text}" for objective, text in pairs]
    seeds = result.estimates[0].seeds
    chance = f"P(frontier): {percent(result.probability)}" if result.probability is not None else "spread unknown"
    alike = f"not separable from {', '.join(result.not_separable_from)}" if result.not_separable_from else ""
    trained = f"seeds: {seeds}; {chance}" if result.kind != "baseline" else ""
    parts = [marked_label(result), *values, trained, result.reason, alike]
    return "\n".join(part for part in parts if part)


def _step(info: FrontierInfo) -> tuple[tuple[float, float], ...]:
    """Return the frontier's edge; empty with a third objective, because the edge is then a surface."""
    means = [[one.mean for one in result.estimates] for result in info.results if result.on_frontier]
    if len(info.objectives) > 2 or len(means) < 2:
        return ()
    directions = directions_of(info.objectives)
    corners = as_costs(staircase(as_costs(np.array(means), directions)), directions)
    return tuple((float(x), float(y)) for x, y in corners)


def _edges(info: FrontierInfo, x_range: Span, y_range: Span) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Return the edge of each surface, led to the worst end of both axes; none with a third objective."""
    x, y = info.objectives[:2]
    if info.attained is None or len(info.objectives) > 2 or not all(one.points for one in info.attained.surfaces):
        return ()
    worst = [span[0 if one.direction == "higher" else 1] for one, span in ((x, x_range), (y, y_range))]
    directions = directions_of(info.objectives)
    edges = []
    for one in info.attained.surfaces:
        corners = as_costs(staircase(as_costs(np.array(one.points), directions)), directions)
        inside = [(float(across), float(up)) for across, up in corners]
        edges.append(((inside[0][0], worst[1]), *inside, (worst[0], inside[-1][1])))
    return tuple(edges)


def _range(values: Sequence[float]) -> Span:
    """Return the range of an axis, with room for labels on both sides."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.12 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin


def _along(value: float, span: Span) -> float:
    return (value - span[0]) / (span[1] - span[0])
