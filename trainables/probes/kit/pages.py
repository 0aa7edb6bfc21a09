"""Pages of user interfaces: settings, a shop, a table."""

from __future__ import annotations

from random import Random

from trainables.probes.kit.canvas import Canvas, Colour, Drawing, Fact, Size, counted, mixed, with_article
from trainables.probes.kit.texts import COLOURS, LANGUAGES, Language

WHITE: Colour = (255, 255, 255)
INK: Colour = (35, 38, 45)
FAINT: Colour = (150, 155, 165)
SURFACES = ((245, 246, 248), (252, 250, 246))
GOODS = ("Lamp", "Mug", "Ball", "Box", "Kite", "Book")
STATES = (("Open", "orange"), ("Paid", "green"), ("Late", "red"), ("Sent", "blue"))


def draw(rng: Random, size: Size, index: int) -> Drawing:
    """Draw the page of this number; settings, a shop and a table take turns."""
    accent = rng.choice(("blue", "green", "purple", "orange", "red"))
    canvas = Canvas(size, rng.choice(SURFACES), rng)
    language = LANGUAGES[index // 3 % len(LANGUAGES)]
    return (_settings, _shop, _table)[index % 3](canvas, accent, language)


def _settings(canvas: Canvas, accent: str, language: Language) -> Drawing:
    rng, width, rows = canvas.rng, canvas.width, []
    canvas.box((0, 0, 232, 768), mixed(COLOURS[accent], (20, 22, 30), 0.75))
    canvas.ellipse((34, 34, 94, 94), COLOURS[accent])
    canvas.text((64, 64), language.people[0][:1], 30, WHITE, "mm", bold=True)
    canvas.text((110, 52), language.people[0], 22, WHITE)
    for row in range(5):
        canvas.box((34, 150 + 54 * row, 56, 172 + 54 * row), mixed(COLOURS[accent], WHITE, 0.3), 6)
        canvas.line([(72, 161 + 54 * row), (rng.randrange(130, 190), 161 + 54 * row)], (170, 175, 185), 8)
    names = rng.sample(language.settings, rng.randrange(4, len(language.settings) + 1))
    canvas.text((272, 46), "Settings" if language.name == "English" else language.settings[0], 34, INK, bold=True)
    for row, name in enumerate(names):
        top, is_on = 118 + 92 * row, rng.random() < 0.5
        canvas.box((268, top, width - 36, top + 76), WHITE, 12, (225, 228, 233))
        room = width - 64 - 62 - 16 - 292  # up to the switch
        canvas.text((292, top + 38), name, min(23.0, 23.0 * room / canvas.text_width(name, 23)), INK, "lm")
        right = width - 64
        canvas.box((right - 62, top + 22, right, top + 54), COLOURS[accent] if is_on else (200, 204, 210), 16)
        knob = right - 30 if is_on else right - 60
        canvas.ellipse((knob, top + 24, knob + 28, top + 52), WHITE)
        rows.append(is_on)
    count, on = len(rows), sum(rows)
    return Drawing(
        "page",
        canvas.finished(),
        f"A settings page in {language.name} with {count} switches, {on} of them on, in {accent}.",
        (
            Fact("count", "How many switches does this page show? Answer with a number.", counted(count)),
            Fact("count", "How many of the switches are on? Answer with a number.", counted(on)),
            Fact("position", "On which side of this page is the dark menu: left or right?", ("left",)),
        ),
    )


def _shop(canvas: Canvas, accent: str, language: Language) -> Drawing:
    rng, width = canvas.rng, canvas.width
    canvas.box((0, 0, width, 72), COLOURS[accent])
    canvas.text((30, 36), rng.choice(("Hearth & Home", "Old Mill Store", "Plain Things")), 28, WHITE, "lm", bold=True)
    if width > 720:  # else it would cover the name
        canvas.box((width - 330, 18, width - 120, 54), WHITE, 18)
        canvas.ellipse((width - 316, 27, width - 300, 43), FAINT)
    canvas.box((width - 84, 24, width - 40, 50), WHITE, 4)
    columns = max(2, min(4, int(width // 250)))
    count = rng.randrange(columns, 2 * columns + 1)
    side = (width - 30) / columns - 24
    best, goods = rng.randrange(count), rng.choices(GOODS, k=count)
    tones = [rng.choice(sorted(COLOURS)) for _ in range(count)]
    for number, name in enumerate(goods):
        left, top = 30 + (side + 24) * (number % columns), 100 + 330 * (number // columns)
        canvas.box((left, top, left + side, top + 306), WHITE, 14, (225, 228, 233))
        canvas.box((left + 14, top + 14, left + side - 14, top + 186), mixed(COLOURS[tones[number]], WHITE, 0.75), 8)
        middle = left + side / 2
        _ware(canvas, name, middle, top + 100, COLOURS[tones[number]])
        canvas.text((left + 18, top + 198), name, 22, INK, bold=True)
        canvas.text((left + 18, top + 230), f"{rng.randrange(5, 90)}.{rng.choice(('00', '50', '90'))}", 20, FAINT)
        fill = COLOURS[accent] if number == best else (205, 209, 215)
        canvas.box((left + 18, top + 260, left + side - 18, top + 292), fill, 8)
        canvas.text((middle, top + 276), "Add", 18, WHITE, "mm", bold=True)
    return Drawing(
        "page",
        canvas.finished(),
        f"A page of a shop with {count} products in {columns} columns under {with_article(accent)} bar; the first is "
        f"{with_article(tones[0])} {goods[0].lower()}.",
        (
            Fact("count", "How many products does this page show? Answer with a number.", counted(count)),
            Fact("colour", "Which colour is the bar at the top of this page? Answer in one word.", (accent,)),
            Fact("position", "Which product is in the top left corner? Answer in one word.", (goods[0],)),
        ),
    )


def _ware(canvas: Canvas, name: str, x: float, y: float, colour: Colour) -> None:
    """Draw a product around a point."""
    dark = mixed(colour, INK, 0.35)
    if name == "Ball":
        canvas.ellipse((x - 52, y - 52, x + 52, y + 52), colour)
        canvas.ellipse((x - 30, y - 34, x - 8, y - 12), mixed(colour, WHITE, 0.5))
    elif name == "Box":
        canvas.box((x - 50, y - 30, x + 50, y + 56), colour, 4)
        canvas.polygon([(x - 50, y - 30), (x - 26, y - 56), (x + 74, y - 56), (x + 50, y - 30)], dark)
    elif name == "Mug":
        canvas.ellipse((x + 10, y - 34, x + 74, y + 34), dark)
        canvas.ellipse((x + 24, y - 20, x + 60, y + 20), mixed(colour, WHITE, 0.75))
        canvas.box((x - 50, y - 52, x + 38, y + 52), colour, 10)
    elif name == "Kite":
        canvas.polygon([(x, y - 66), (x + 44, y - 12), (x, y + 50), (x - 44, y - 12)], colour)
        canvas.line([(x, y - 66), (x, y + 72)], dark, 3)
        canvas.line([(x - 44, y - 12), (x + 44, y - 12)], dark, 3)
    elif name == "Book":
        canvas.box((x - 44, y - 58, x + 44, y + 58), colour, 5)
        canvas.box((x - 44, y - 58, x - 28, y + 58), dark, 5)
        canvas.line([(x - 10, y - 26), (x + 28, y - 26)], mixed(colour, WHITE, 0.7), 6)
    else:
        canvas.box((x - 5, y - 4, x + 5, y + 54), dark)
        canvas.box((x - 34, y + 50, x + 34, y + 62), dark, 5)
        canvas.polygon([(x - 24, y - 62), (x + 24, y - 62), (x + 52, y), (x - 52, y)], colour)


def _table(canvas: Canvas, accent: str, language: Language) -> Drawing:
    rng, width = canvas.rng, canvas.width
    canvas.text((36, 36), "Orders", 34, INK, bold=True)
    button = width - 210 if rng.random() < 0.5 else 190.0
    canvas.box((button, 34, button + 170, 78), COLOURS[accent], 10)
    canvas.text((button + 85, 56), "New order", 20, WHITE, "mm", bold=True)
    count = rng.randrange(5, 10)
    columns = (36, 36 + width * 0.16, 36 + width * 0.46, 36 + width * 0.68)
    canvas.box((24, 106, width - 24, 152), mixed(COLOURS[accent], WHITE, 0.85), 8)
    for left, name in zip(columns, ("No.", "Name", "Total", "State"), strict=True):
        canvas.text((left + 10, 129), name, 20, INK, "lm", bold=True)
    late = 0
    for row in range(count):
        top, (state, tone) = 162 + 62 * row, rng.choice(STATES)
        late += state == "Late"
        canvas.box((24, top, width - 24, top + 54), WHITE, 8)
        canvas.text((columns[0] + 10, top + 27), f"{rng.randrange(100, 999)}", 20, FAINT, "lm")
        canvas.text((columns[1] + 10, top + 27), rng.choice(language.people), 20, INK, "lm")
        canvas.text((columns[2] + 10, top + 27), f"{rng.randrange(10, 900)}.00", 20, INK, "lm")
        canvas.box((columns[3] + 6, top + 12, columns[3] + 96, top + 42), mixed(COLOURS[tone], WHITE, 0.78), 15)
        canvas.text((columns[3] + 51, top + 27), state, 18, mixed(COLOURS[tone], INK, 0.3), "mm", bold=True)
    side = "right" if button > width / 2 else "left"
    return Drawing(
        "page",
        canvas.finished(),
        f"A page with a table of {count} orders, {late} of them late, and {with_article(accent)} button at the top "
        f"{side}.",
        (
            Fact("count", "How many orders does the table list? Answer with a number.", counted(count)),
            Fact("colour", "Which colour is the button `New order`? Answer in one word.", (accent,)),
            Fact("count", "How many orders are in the state `Late`? Answer with a number.", counted(late)),
        ),
    )
