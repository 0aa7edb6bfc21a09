"""Letters, lists and invoices as scanned pages."""

from __future__ import annotations

from pathlib import Path
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
from trainables.probes.kit.texts import CHINESE, COLOURS, LANGUAGES, Language

INK: Colour = (45, 45, 50)
GREY: Colour = (120, 120, 125)
TABLE: Colour = (92, 84, 74)
THINGS = ("Flour", "Candles", "Nails", "Soap", "Rope", "Paper", "Honey", "Buttons", "Seeds", "Twine")


def draw(rng: Random, size: Size, index: int, font_file: Path | None = None) -> Drawing:
    """Draw the document of this number; letters, lists and invoices take turns."""
    languages = (*LANGUAGES, CHINESE) if font_file else LANGUAGES
    language = languages[index // 3 % len(languages)]
    canvas = Canvas(size, mixed(TABLE, (255, 255, 255), rng.random() * 0.5), rng,
                    font_file if language is CHINESE else None)  # fmt: skip
    paper = mixed((255, 255, 255), (235, 220, 190), rng.random() * 0.6)
    width = min(canvas.width - 60, 560.0)
    left = (canvas.width - width) * rng.choice((0.15, 0.5, 0.85))
    canvas.box((left + 8, 28, left + width + 8, DESIGN_HEIGHT - 12), mixed(canvas.background, (0, 0, 0), 0.35), 3)
    canvas.box((left, 20, left + width, DESIGN_HEIGHT - 20), paper, 2)
    return (_letter, _list, _invoice)[index % 3](canvas, left, width, language)


def _letter(canvas: Canvas, left: float, width: float, language: Language) -> Drawing:
    rng, top = canvas.rng, 190.0
    canvas.text((left + width - 50, 80), f"{rng.randrange(1, 29)}.{rng.randrange(1, 13)}.2024", 20, GREY, "rm")
    seal = rng.choice(("red", "blue", "green"))
    for number, sentence in enumerate(language.letter):
        for line in canvas.wrapped(sentence, 21, width - 100):
            canvas.text((left + 50, top), line, 21, INK)
            top += 34
        top += 14 if number else 26
    canvas.text((left + 50, top + 26), rng.choice(language.people), 26, INK)
    canvas.ellipse((left + width - 150, 560, left + width - 50, 660), COLOURS[seal])
    canvas.ellipse((left + width - 132, 578, left + width - 68, 642), mixed(COLOURS[seal], (255, 255, 255), 0.25))
    return Drawing(
        "document",
        canvas.finished(),
        f"A letter in {language.name} on a sheet of paper, with {with_article(seal)} seal at the bottom right.",
        (
            Fact("colour", "Which colour is the seal on this letter? Answer in one word.", (seal,)),
            Fact("position", "Is the seal at the top or at the bottom of the letter?", ("bottom",)),
        ),
    )


def _list(canvas: Canvas, left: float, width: float, language: Language) -> Drawing:
    rng, things = canvas.rng, canvas.rng.sample(THINGS, canvas.rng.randrange(4, 9))
    ticked = rng.randrange(1, len(things))
    canvas.text((left + 50, 90), "To buy", 38, INK, bold=True)
    canvas.line([(left + 50, 146), (left + width - 50, 146)], GREY, 2)
    for row, thing in enumerate(things):
        top = 180 + 62 * row
        canvas.box((left + 50, top, left + 80, top + 30), None, 3, INK)
        if row < ticked:
            canvas.line([(left + 56, top + 16), (left + 64, top + 24), (left + 82, top - 2)], COLOURS["green"], 5)
        canvas.text((left + 104, top + 15), thing, 26, INK, "lm")
    return Drawing(
        "document",
        canvas.finished(),
        f"A shopping list of {len(things)} things, {ticked} of them ticked; the first is {things[0].lower()}.",
        (
            Fact("count", "How many things are on this list? Answer with a number.", counted(len(things))),
            Fact("count", "How many things are ticked? Answer with a number.", counted(ticked)),
            Fact("position", "Which thing is last on the list? Answer in one word.", (things[-1],)),
        ),
    )


def _invoice(canvas: Canvas, left: float, width: float, language: Language) -> Drawing:
    rng, things = canvas.rng, canvas.rng.sample(THINGS, canvas.rng.randrange(3, 7))
    stripe = rng.choice(("blue", "red", "green", "purple"))
    canvas.box((left, 20, left + width, 110), COLOURS[stripe])
    canvas.text((left + 40, 65), "INVOICE", 38, (255, 255, 255), "lm", bold=True)
    canvas.text((left + width - 40, 65), f"No. {rng.randrange(1000, 9999)}", 22, (255, 255, 255), "rm")
    canvas.text((left + 40, 150), rng.choice(language.people), 22, INK)
    total = 0
    for row, thing in enumerate(things):
        top, price = 240 + 52 * row, rng.randrange(2, 60)
        total += price
        canvas.text((left + 40, top), thing, 23, INK, "lm")
        canvas.text((left + width - 40, top), f"{price}.00", 23, INK, "rm")
        canvas.line([(left + 40, top + 26), (left + width - 40, top + 26)], (210, 205, 195), 1)
    top = 240 + 52 * len(things) + 20
    canvas.text((left + 40, top), "Total", 26, INK, "lm", bold=True)
    canvas.text((left + width - 40, top), f"{total}.00", 26, INK, "rm", bold=True)
    return Drawing(
        "document",
        canvas.finished(),
        f"An invoice with {with_article(stripe)} head and {len(things)} items, {total}.00 in total.",
        (
            Fact("count", "How many items does this invoice list? Answer with a number.", counted(len(things))),
            Fact("colour", "Which colour is the head of this invoice? Answer in one word.", (stripe,)),
        ),
    )
