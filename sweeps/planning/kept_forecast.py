"""What keeping the activations of frozen layers takes and saves, arm by arm; a pure function of shapes.

FLOPs are those of the linears: 2 per weight and token forward, and 2 backward where a gradient passes. Attention, norms
and the head, which runs at labels only, are left out on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.planning.data_quality import FileQuality
from sweeps.planning.forecast import Forecast, Towers
from trainables.frozen.settings import GIGABYTE, CacheSettings
from trainables.frozen.worth import Keeping, Reads, decide
from trainables.model.families import TOWERS, Blocks, TowerName, patches_per_token
from trainables.spec import Placement

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "auto": 4}  # auto is float32 on a CPU, and half of it on a GPU


@dataclass(frozen=True)
class RowShape:
    """The mean row of a file: its tokens, those of them that are of pictures, and the patches of the pictures."""

    rows: int
    tokens: float
    image_tokens: float
    patches: float

    @classmethod
    def of(cls, quality: FileQuality, config: Mapping[str, Any]) -> RowShape:
        """Return the mean row of a file for the model of a configuration."""
        rows = max(1, quality.rows)
        tokens = quality.tokens / rows
        image = tokens * quality.image_share
        return cls(quality.rows, tokens, image, image * patches_per_token(config))


@dataclass(frozen=True)
class KeptForecast:
    """What is kept for one placement: bytes of all training rows, and the share of a trial's FLOPs below its adapters.

    `saved_share` is what a run of `epochs` with `evals` saves over a trial alone that computes them every epoch.
    """

    arms: tuple[str, ...]
    kept_bytes: int
    frozen_share: float
    epochs: float
    evals: int = 0

    def keeping(self, has_files: bool) -> Keeping:
        """Return what an engine keeps, unless the steps that it times say otherwise."""
        return decide(Reads(max(1.0, self.epochs), self.evals), has_files)

    @property
    def saved_share(self) -> float:
        """Return the share of the FLOPs of training that reading saves within the run; the first epoch computes."""
        return self.frozen_share * max(0.0, 1.0 - 1.0 / self.epochs) if self.epochs else 0.0


def kept_forecasts(
    forecasts: Sequence[Forecast], towers: Towers, config: Mapping[str, Any], quality: FileQuality
) -> tuple[KeptForecast, ...]:
    """Return what is kept for each placement that trains, in the order of the trials."""
    arms: dict[tuple[Placement, float, int, str], list[str]] = {}
    for one in forecasts:
        if not one.spec.placement.is_baseline:
            evals = one.evals - (one.spec.init_from is not None)  # the first of a continued trial reads no entries
            key = (one.spec.placement, one.coverage_epochs, evals, one.spec.compute_dtype)
            arms.setdefault(key, []).append(one.spec.arm)
    return tuple(
        kept_forecast(tuple(dict.fromkeys(names)), *key, towers, config, quality) for key, names in arms.items()
    )


def kept_forecast(  # noqa: PLR0913, PLR0917 a placement, its run, and what it runs on
    names: Sequence[str], placement: Placement, epochs: float, evals: int, compute_dtype: str,
    towers: Towers, config: Mapping[str, Any], quality: FileQuality,
) -> KeptForecast:  # fmt: skip
    """Return what is kept for one placement: of arms, or of a search or a stage that tries it, as `names` call it."""
    row = RowShape.of(quality, config)
    taps = len((config.get("vision_config") or {}).get("deepstack_visual_indexes", ()))
    size = int(row.rows * _values(placement, towers, row, taps) * BYTES[compute_dtype])
    return KeptForecast(tuple(names), size, frozen_share(placement, towers, row, taps), epochs, evals)


def starts_in_language(placement: Placement, towers: Towers, row: RowShape, taps: int) -> bool:
    """True when the hidden states that enter the lowest adapted language layer are kept, as `frozen.key` decides it."""
    below = _below(placement, towers, "language")
    return not row.patches or (not placement.vision and below >= max(1, taps))


def frozen_share(placement: Placement, towers: Towers, row: RowShape, taps: int) -> float:
    """Return the share of the FLOPs of a trial alone that layers compute whose results are kept."""
    language, vision = (_weights(towers[tower]) for tower in ("language", "vision"))
    low, low_vision = (_below(placement, towers, tower) for tower in TOWERS)
    forward = sum(language) * row.tokens + sum(vision) * row.patches
    through = 0 if placement.vision and row.patches else low  # gradients for the vision tower pass all language layers
    backward = sum(language[through:]) * row.tokens + sum(vision[low_vision:]) * row.patches
    kept = sum(vision[:low_vision]) * row.patches
    if starts_in_language(placement, towers, row, taps):
        kept += sum(language[:low]) * row.tokens
    return kept / (forward + backward) if forward else 0.0


def kept_text(found: Sequence[KeptForecast], cache: CacheSettings) -> str:
    """Return the sentences of the plan: what is kept and saved by arm, and where; empty if no trial trains."""
    if not found:
        return ""
    if not cache.is_on:
        return "Frozen layers are computed again in every epoch (--cache off)."
    lines = [f"    {', '.join(one.arms)}: {_line(one, bool(cache.directory))}" for one in found]
    if cache.directory:
        where = f"in memory and in {cache.directory}, at most {cache.file_bytes / GIGABYTE:g} GB"
    else:
        where = ("in memory, at most a tenth of what is free, where that pays; --cache DIR keeps them for later "
                 "launches")  # fmt: skip
    return "\n".join([f"Activations of frozen layers are kept {where}:", *lines])


def _line(one: KeptForecast, has_files: bool) -> str:
    keeping = one.keeping(has_files)
    if keeping.training:
        return (f"{one.kept_bytes / GIGABYTE:.2g} GB, saves {one.saved_share:.0%} of the FLOPs "
                f"({one.frozen_share:.0%} if kept before)")  # fmt: skip
    seen = "once" if one.epochs < 1.005 else f"{one.epochs:.2g} times"
    own = f", those of {one.evals} evals are" if keeping.evals else ""
    return f"a row is trained on {seen}, so those of training are not kept{own}"


def _values(placement: Placement, towers: Towers, row: RowShape, taps: int) -> float:
    """Count the values that are kept of a row."""
    width = towers["language"][0][0].inputs
    if starts_in_language(placement, towers, row, taps):
        return row.tokens * width if _below(placement, towers, "language") else 0.0
    if not placement.vision:  # all features of the pictures
        return (1 + taps) * row.image_tokens * width
    return row.patches * towers["vision"][0][0].inputs * bool(_below(placement, towers, "vision"))


def _below(placement: Placement, towers: Towers, tower: TowerName) -> int:
    """Return the number of layers of a tower below its lowest adapted one."""
    return len(towers[tower]) - placement.depth(tower, len(towers[tower]))


def _weights(blocks: Blocks) -> list[int]:
    return [sum(linear.inputs * linear.outputs for linear in block) for block in blocks]
