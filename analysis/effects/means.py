"""The mean of a metric at each placement, which shows what a linear model smooths over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from analysis.effects.design import LANGUAGE, VISION, Observation, levels, replay_ratio

Settings = tuple[float, float, str, float]  # rank, rate, quantization, replay ratio


@dataclass(frozen=True)
class PlacementMeans:
    """The mean of a metric over the seeds of each placement, at one rank, rate and quantization.

    `means` has a row for each number of language layers and a column for each number of vision blocks, None where no
    trial has that placement. `others` are the settings that as many trials share.
    """

    metric: str
    settings: Settings
    others: tuple[Settings, ...]
    language: tuple[int, ...]
    vision: tuple[int, ...]
    means: tuple[tuple[float | None, ...], ...]

    @property
    def where(self) -> str:
        """Return in words what all its trials share, and the other settings that were measured alike."""
        also = [_differing(one, self.settings) for one in self.others]
        shared = ", ".join(filter(None, _parts(self.settings)))
        return f"{shared}; as many trials have {' or '.join(also)}" if also else shared


def placement_means(among: Sequence[Observation], metric: str) -> PlacementMeans | None:
    """Return the means at the settings that most trials share; None where a tower is fixed.

    Of settings that equally many share it is the middle one, for example the middle rate of three.
    """
    counts = Counter(_settings(one) for one in among)
    most = sorted(one for one, count in counts.items() if count == max(counts.values()))
    shown = most[len(most) // 2]
    alike = [one for one in among if _settings(one) == shown]
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
    return PlacementMeans(metric, shown, tuple(one for one in most if one != shown), language, vision, means)


def _settings(one: Observation) -> Settings:
    return one.rank, one.rate, one.quantization, replay_ratio(one.trial)


def _differing(settings: Settings, shown: Settings) -> str:
    pairs = zip(_parts(settings), _parts(shown), strict=True)
    return ", ".join(part or "no replay" for part, other in pairs if part != other)


def _parts(settings: Settings) -> list[str]:
    rank, rate, quantization, replay = settings
    replayed = f"{replay:.0%} replay" if replay else ""
    return [f"rank {rank:g}", f"rate {rate:g}", quantization, replayed]
