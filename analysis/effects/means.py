"""The mean of a metric at each placement, which shows what a linear model smooths over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from analysis.effects.design import LANGUAGE, VISION, Observation, levels, replay_ratio


@dataclass(frozen=True)
class PlacementMeans:
    """The mean of a metric over the seeds of each placement.

    `means` has a row for each number of language layers and a column for each number of vision blocks, None where no
    trial has that placement; all are of one rank, rate and quantization.
    """

    metric: str
    language: tuple[int, ...]
    vision: tuple[int, ...]
    means: tuple[tuple[float | None, ...], ...]


def placement_means(among: Sequence[Observation], metric: str) -> PlacementMeans | None:
    """Return the means of the trials at the rank, rate and quantization that most have; None where a tower is fixed."""
    settings = Counter(_settings(one) for one in among)
    most = max(settings, key=settings.__getitem__)
    alike = [one for one in among if _settings(one) == most]
    language, vision = (tuple(int(level) for level in levels(tower, alike)) for tower in (LANGUAGE, VISION))
    if len(language) < 2 or len(vision) < 2:
        return None
    values: dict[tuple[int, int], list[float]] = {}
    for one in alike:
        values.setdefault((one.language, one.vision), []).append(one.last.metrics[metric])
    means = tuple(
        tuple(fmean(values[layers, blocks]) if (layers, blocks) in values else None for blocks in vision)
        for layers in language
    )
    return PlacementMeans(metric, language, vision, means)


def _settings(one: Observation) -> tuple[float | str, ...]:
    return one.rank, one.rate, one.quantization, replay_ratio(one.trial)
