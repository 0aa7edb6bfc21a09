"""Places labels near their points without overlaps; used for PNG and HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = tuple[float, float, float, float]  # left, bottom, right, top

DISTANCES = (15.0, 24.0, 36.0, 50.0, 66.0, 84.0)
NEAR = 2  # of the distances
ANGLES_DEGREES = (45, 0, -45, 90, -90, 135, 180, -135)
MARK_RADIUS = 6.0
MAX_COVERED = 0.1  # of a label's own area; a label that more is covered of cannot be read


def place_labels(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    area: tuple[float, float],
    character: tuple[float, float],
    far: Sequence[bool] = (),
) -> list[tuple[float, float] | None]:
    """Return, for each label, the offset of its centre from its point, or None where there is no room for it.

    Earlier labels are placed first; where `far` is false for one, it is only placed next to its point. `points`, `area`
    (width, height) and `character` (width, height) have the same unit, points or pixels, and y points upwards.
    """
    marks = [(x - MARK_RADIUS, y - MARK_RADIUS, x + MARK_RADIUS, y + MARK_RADIUS) for x, y in points]
    taken: list[Box] = []
    offsets: list[tuple[float, float] | None] = []
    for point, text, may_be_far in zip(points, texts, far or [True] * len(points), strict=True):
        size = (len(text) * character[0], character[1])
        choices = [
            _offset(distance, angle, size)
            for distance in DISTANCES[: None if may_be_far else NEAR]
            for angle in ANGLES_DEGREES
        ]
        boxes = [_box(point, offset, size) for offset in choices]
        costs = [sum(_overlap(box, other) for other in marks + taken) + 10 * _outside(box, area) for box in boxes]
        best = costs.index(min(costs))
        if not text or min(costs) > MAX_COVERED * size[0] * size[1]:
            offsets.append(None)
            continue
        taken.append(boxes[best])
        offsets.append(choices[best])
    return offsets


def _offset(distance: float, angle_degrees: float, size: tuple[float, float]) -> tuple[float, float]:
    """Return the offset at which the label's near edge, not its centre, is `distance` away."""
    cosine, sine = math.cos(math.radians(angle_degrees)), math.sin(math.radians(angle_degrees))
    return cosine * distance + _sign(cosine) * size[0] / 2, sine * distance


def _sign(value: float) -> int:
    return 0 if abs(value) < 1e-9 else int(math.copysign(1, value))


def _box(point: tuple[float, float], offset: tuple[float, float], size: tuple[float, float]) -> Box:
    x, y = point[0] + offset[0], point[1] + offset[1]
    return x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _outside(box: Box, area: tuple[float, float]) -> float:
    whole = (box[2] - box[0]) * (box[3] - box[1])
    return whole - _overlap(box, (0.0, 0.0, *area))
