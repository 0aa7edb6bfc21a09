"""Landscapes with houses, trees, a car and a sun or a moon."""

from __future__ import annotations

import math
from random import Random

from trainables.probes.kit.canvas import (
    DESIGN_HEIGHT,
    Canvas,
    Colour,
    Drawing,
    Fact,
    Size,
    counted,
    mixed,
    with_article,
)
from trainables.probes.kit.texts import COLOURS

DAY: tuple[Colour, Colour] = ((120, 185, 240), (225, 240, 252))
NIGHT: tuple[Colour, Colour] = ((14, 20, 48), (52, 62, 110))
ROAD = 620.0


def draw(rng: Random, size: Size, index: int) -> Drawing:
    """Draw the landscape of this number; day and night take turns."""
    is_day, side = index % 2 == 0, rng.choice(("left", "right"))
    canvas = Canvas(size, DAY[1], rng)
    _sky(canvas, is_day, side)
    _hills(canvas, is_day)
    houses, trees = rng.randrange(1, 5), rng.randrange(2, 7)
    wall = _row(canvas, houses, trees, is_day)
    car = rng.choice(("red", "blue", "yellow", "green", "orange"))
    _road(canvas, is_day)
    _car(canvas, canvas.width * rng.uniform(0.15, 0.7), car)
    light = "sun" if is_day else "moon"
    return Drawing(
        "scene",
        canvas.finished(),
        f"A landscape by {'day' if is_day else 'night'}: {houses} {wall} house{'s' * (houses > 1)}, {trees} trees, "
        f"{with_article(car)} car on a road, and the {light} on the {side}.",
        (
            Fact("count", "How many houses are in this picture? Answer with a number.", counted(houses)),
            Fact("colour", "Which colour is the car? Answer in one word.", (car,)),
            Fact("position", f"On which side of the picture is the {light}: left or right?", (side,)),
        ),
    )


def _sky(canvas: Canvas, is_day: bool, side: str) -> None:
    top, low = DAY if is_day else NIGHT
    bands = 64
    for band in range(bands):
        y = 460.0 * band / bands
        canvas.box((0, y, canvas.width, y + 460.0 / bands + 1), mixed(top, low, band / bands))
    rng, x = canvas.rng, canvas.width * (0.16 if side == "left" else 0.84)
    if is_day:
        for _ in range(3):
            _cloud(canvas, rng.uniform(0.25, 0.75) * canvas.width, rng.uniform(60, 200))
        canvas.ellipse((x - 52, 58, x + 52, 162), (250, 215, 70))  # before the clouds: it is asked for
        return
    for _ in range(60):
        left, y, radius = rng.uniform(0, canvas.width), rng.uniform(0, 330), rng.uniform(1, 2.6)
        canvas.ellipse((left, y, left + radius, y + radius), (235, 238, 250))
    canvas.ellipse((x - 46, 64, x + 46, 156), (240, 238, 215))
    canvas.ellipse((x - 18, 56, x + 66, 140), mixed(top, low, 0.22))


def _cloud(canvas: Canvas, x: float, y: float) -> None:
    for dx, dy, radius in ((-46, 8, 28), (-12, -8, 38), (28, 2, 32), (58, 12, 22)):
        canvas.ellipse((x + dx - radius, y + dy - radius, x + dx + radius, y + dy + radius), (255, 255, 255))


def _hills(canvas: Canvas, is_day: bool) -> None:
    rng, dark = canvas.rng, 0.0 if is_day else 0.55
    for height, tone in ((330, (150, 185, 150)), (400, (105, 160, 100)), (470, (80, 140, 75))):
        phase, wave = rng.uniform(0, 6), rng.uniform(180, 320)
        points = [(x, height + 34 * math.sin(x / wave + phase)) for x in range(0, round(canvas.width) + 20, 12)]
        colour = mixed(tone, (10, 15, 40), dark)
        canvas.polygon([(0.0, float(DESIGN_HEIGHT)), *points, (canvas.width + 20, float(DESIGN_HEIGHT))], colour)


def _row(canvas: Canvas, houses: int, trees: int, is_day: bool) -> str:
    """Draw houses and trees next to each other; return the colour of the walls."""
    rng, count = canvas.rng, houses + trees
    things = ["house"] * houses + ["tree"] * trees
    rng.shuffle(things)
    wall, colour = rng.choice((("white", (240, 238, 230)), ("yellow", (238, 210, 120)), ("pink", (235, 175, 175))))
    room = canvas.width / count
    for number, thing in enumerate(things):
        middle, floor = room * (number + 0.5), 566 + rng.uniform(-16, 16)
        scale = min(1.0, room / 130)
        if thing == "house":
            _house(canvas, middle, floor, scale, mixed(colour, (20, 25, 60), 0.0 if is_day else 0.45), is_day)
        else:
            _tree(canvas, middle, floor, scale, is_day)
    return wall


def _house(canvas: Canvas, x: float, floor: float, scale: float, wall: Colour, is_day: bool) -> None:
    half, height = 52 * scale, 92 * scale
    roof = mixed((165, 65, 50), (20, 25, 60), 0.0 if is_day else 0.5)
    pane = (150, 200, 230) if is_day else (250, 215, 110)
    canvas.box((x - half, floor - height, x + half, floor), wall)
    canvas.polygon([(x - half - 14 * scale, floor - height), (x, floor - height - 58 * scale),
                    (x + half + 14 * scale, floor - height)], roof)  # fmt: skip
    canvas.box((x - 13 * scale, floor - 46 * scale, x + 13 * scale, floor), (105, 70, 45))
    for way in (-1, 1):
        middle = x + way * 32 * scale
        canvas.box(
            (middle - 12 * scale, floor - 76 * scale, middle + 12 * scale, floor - 52 * scale), pane, 0, (90, 80, 70)
        )


def _tree(canvas: Canvas, x: float, floor: float, scale: float, is_day: bool) -> None:
    shade = 0.0 if is_day else 0.5
    canvas.box((x - 8 * scale, floor - 56 * scale, x + 8 * scale, floor), mixed((110, 75, 45), (10, 15, 40), shade))
    leaves = mixed(canvas.rng.choice(((60, 125, 60), (85, 145, 55), (45, 105, 70))), (10, 15, 40), shade)
    for dx, dy, radius in ((-26, 74, 30), (26, 74, 30), (0, 108, 36), (0, 78, 34)):
        canvas.ellipse((x + (dx - radius) * scale, floor - (dy + radius) * scale, x + (dx + radius) * scale,
                        floor - (dy - radius) * scale), leaves)  # fmt: skip


def _road(canvas: Canvas, is_day: bool) -> None:
    canvas.box((0, ROAD, canvas.width, ROAD + 92), (95, 97, 102) if is_day else (48, 50, 60))
    for x in range(20, round(canvas.width), 110):
        canvas.box((x, ROAD + 43, x + 56, ROAD + 49), (235, 235, 235) if is_day else (170, 170, 175))


def _car(canvas: Canvas, x: float, name: str) -> None:
    floor, colour = ROAD + 62, COLOURS[name]
    canvas.polygon([(x + 36, floor - 48), (x + 58, floor - 82), (x + 122, floor - 82), (x + 152, floor - 48)], colour)
    canvas.polygon(
        [(x + 48, floor - 50), (x + 64, floor - 74), (x + 86, floor - 74), (x + 86, floor - 50)], (205, 228, 240)
    )
    canvas.polygon(
        [(x + 93, floor - 50), (x + 93, floor - 74), (x + 117, floor - 74), (x + 138, floor - 50)], (205, 228, 240)
    )
    canvas.box((x, floor - 50, x + 182, floor - 10), colour, 14)
    for wheel in (42, 142):
        canvas.ellipse((x + wheel - 20, floor - 28, x + wheel + 20, floor + 12), (30, 30, 34))
        canvas.ellipse((x + wheel - 9, floor - 17, x + wheel + 9, floor + 1), (190, 192, 198))
    canvas.ellipse((x + 170, floor - 40, x + 182, floor - 26), (255, 240, 170))
