"""Bar, line and pie charts."""

from __future__ import annotations

from random import Random

from trainables.probes.kit.canvas import Canvas, Colour, Drawing, Fact, Size, counted, mixed
from trainables.probes.kit.texts import COLOURS

INK: Colour = (40, 44, 52)
GRID: Colour = (222, 225, 230)
TITLES = ("Visitors of the museum", "Rain in the valley", "Books lent", "Trees planted", "Bread sold")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug")
FLOOR, CEILING, LEFT = 672.0, 138.0, 110.0


def draw(rng: Random, size: Size, index: int) -> Drawing:
    """Draw the chart of this number; bars, lines and pies take turns."""
    canvas = Canvas(size, rng.choice(((255, 255, 255), (250, 248, 243))), rng)
    title = rng.choice(TITLES)
    canvas.text((canvas.width / 2, 64), title, 34, INK, "mm", bold=True)
    return (_bars, _lines, _pie)[index % 3](canvas, title)


def _bars(canvas: Canvas, title: str) -> Drawing:
    rng, count = canvas.rng, canvas.rng.randrange(4, 9)
    values = rng.sample(range(15, 98), count)
    names = rng.sample(sorted(COLOURS), count) if rng.random() < 0.6 else [rng.choice(sorted(COLOURS))] * count
    _axes(canvas)
    step = (canvas.width - LEFT - 50) / count
    for number, value in enumerate(values):
        left, top = LEFT + step * (number + 0.18), FLOOR - (FLOOR - CEILING) * value / 100
        canvas.box((left, top, left + step * 0.64, FLOOR), COLOURS[names[number]], 4)
        canvas.text((left + step * 0.32, top - 16), str(value), 19, INK, "mm")
        canvas.text((left + step * 0.32, FLOOR + 28), MONTHS[number], 21, INK, "mm")
    tallest = values.index(max(values))
    return Drawing(
        "chart",
        canvas.finished(),
        f"A bar chart, {title}, with {count} bars; the tallest is {MONTHS[tallest]} with {values[tallest]}.",
        (
            Fact("count", "How many bars does this chart have? Answer with a number.", counted(count)),
            Fact("colour", f"Which colour is the bar of {MONTHS[tallest]}? Answer in one word.", (names[tallest],)),
            Fact("position", "Which month has the tallest bar?", _months(tallest)),
        ),
    )


def _lines(canvas: Canvas, title: str) -> Drawing:
    rng, lines, points = canvas.rng, canvas.rng.randrange(2, 5), canvas.rng.randrange(5, 9)
    names = rng.sample(sorted(set(COLOURS) - {"yellow", "pink"}), lines)
    _axes(canvas)
    step, ends = (canvas.width - LEFT - 90) / (points - 1), rng.sample(range(20, 95, 8), lines)
    for name, end in zip(names, ends, strict=True):
        values = [rng.randrange(15, 95) for _ in range(points - 1)] + [end]
        path = [(LEFT + 20 + step * at, FLOOR - (FLOOR - CEILING) * one / 100) for at, one in enumerate(values)]
        canvas.line(path, COLOURS[name], 5)
        for x, y in path:
            canvas.ellipse((x - 7, y - 7, x + 7, y + 7), COLOURS[name])
    for at in range(points):
        canvas.text((LEFT + 20 + step * at, FLOOR + 28), MONTHS[at], 21, INK, "mm")
    highest = names[ends.index(max(ends))]
    return Drawing(
        "chart",
        canvas.finished(),
        f"A line chart, {title}, with {lines} lines: {', '.join(names)}. The {highest} line ends highest.",
        (
            Fact("count", "How many lines does this chart have? Answer with a number.", counted(lines)),
            Fact("colour", "Which colour has the line that ends highest? Answer in one word.", (highest,)),
        ),
    )


def _pie(canvas: Canvas, title: str) -> Drawing:
    rng, count = canvas.rng, canvas.rng.randrange(3, 7)
    names = rng.sample(sorted(COLOURS), count)
    shares = _shares(rng, count)
    middle, radius, start = canvas.width * 0.36, min(260.0, canvas.width * 0.3), -90.0
    for name, share in zip(names, shares, strict=True):
        canvas.pie(
            (middle - radius, 410 - radius, middle + radius, 410 + radius), start, start + 3.6 * share, COLOURS[name]
        )
        start += 3.6 * share
    for row, (name, share) in enumerate(zip(names, shares, strict=True)):
        left, top = canvas.width * 0.36 + radius + 40, 300 + 46 * row
        canvas.box((left, top, left + 26, top + 26), COLOURS[name], 4)
        canvas.text((left + 38, top + 13), f"{share} %", 22, INK, "lm")
    largest = names[shares.index(max(shares))]
    return Drawing(
        "chart",
        canvas.finished(),
        f"A pie chart, {title}, of {count} parts; the largest is {largest} with {max(shares)} %.",
        (
            Fact("count", "How many parts does this pie chart have? Answer with a number.", counted(count)),
            Fact("colour", "Which colour is the largest part? Answer in one word.", (largest,)),
            Fact("position", "Is the legend on the left or on the right of the pie?", ("right",)),
        ),
    )


def _shares(rng: Random, count: int) -> list[int]:
    """Return whole percentages that sum to 100, of which one is the largest by far."""
    rest = [rng.randrange(8, 14) for _ in range(count - 1)]
    shares = [*rest, 100 - sum(rest)]
    rng.shuffle(shares)
    return shares


def _axes(canvas: Canvas) -> None:
    for mark in range(0, 101, 20):
        y = FLOOR - (FLOOR - CEILING) * mark / 100
        canvas.line([(LEFT, y), (canvas.width - 40, y)], mixed(GRID, INK, 0.6) if mark == 0 else GRID, 2)
        canvas.text((LEFT - 14, y), str(mark), 19, INK, "rm")


def _months(at: int) -> tuple[str, ...]:
    whole = ("January", "February", "March", "April", "May", "June", "July", "August")
    return tuple(dict.fromkeys((MONTHS[at], whole[at])))
