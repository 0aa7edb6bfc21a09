"""Screenshots of chats in several languages and themes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

from trainables.probes.kit.canvas import DESIGN_HEIGHT, Canvas, Colour, Drawing, Fact, Size, counted
from trainables.probes.kit.texts import CHINESE, COLOURS, LANGUAGES, Language

LINE, TEXT = 30.0, 21.0


@dataclass(frozen=True)
class Theme:
    """The colours of a chat: background, header, bubbles of others, letters."""

    name: str
    background: Colour
    header: Colour
    bubble: Colour
    letters: Colour
    faint: Colour


THEMES = (
    Theme("light", (240, 242, 245), (255, 255, 255), (255, 255, 255), (25, 28, 33), (130, 135, 145)),
    Theme("dark", (20, 23, 28), (32, 36, 43), (48, 53, 62), (235, 237, 240), (140, 147, 158)),
    Theme("beige", (236, 228, 214), (250, 245, 235), (255, 252, 246), (60, 45, 30), (150, 135, 115)),
)
OWN = ("blue", "green", "purple", "red", "orange")


def draw(rng: Random, size: Size, index: int, font_file: Path | None = None) -> Drawing:
    """Draw the chat of this number; languages and themes take turns."""
    languages = (*LANGUAGES, CHINESE) if font_file else LANGUAGES
    language, theme, own = languages[index % len(languages)], THEMES[index % len(THEMES)], rng.choice(OWN)
    canvas = Canvas(size, theme.background, rng, font_file if language is CHINESE else None)
    person = rng.choice(language.people)
    sides = _bubbles(canvas, language, theme, COLOURS[own])
    _frame(canvas, theme, person, COLOURS[own])
    count, mine = len(sides), sides.count("right")
    return Drawing(
        "chat",
        canvas.finished(),
        f"A screenshot of a chat with {person} in {language.name}, in a {theme.name} theme: {count} messages, of which "
        f"{mine} on the right are {own}.",
        (
            Fact("count", "How many message bubbles does this chat show? Answer with a number.", counted(count)),
            Fact("colour", "Which colour do the message bubbles on the right have? Answer in one word.", (own,)),
            Fact("position", "On which side is the last message bubble: left or right?", (sides[-1],)),
        ),
    )


def _bubbles(canvas: Canvas, language: Language, theme: Theme, own: Colour) -> list[str]:
    rng, top, sides, minute = canvas.rng, 106.0, [], canvas.rng.randrange(5, 30)
    first = rng.randrange(len(language.messages))
    widest = min(canvas.width * 0.62, 560.0)
    for number in range(rng.randrange(4, 8)):
        text = language.messages[(first + number) % len(language.messages)]
        lines = canvas.wrapped(text, TEXT, widest - 40)
        width = max(canvas.text_width(line, TEXT) for line in lines) + 92
        height = LINE * len(lines) + 22
        if top + height > DESIGN_HEIGHT - 88:
            break
        side = "right" if rng.random() < 0.5 else "left"
        if number == 1 and sides == [side]:  # both have their say
            side = "left" if side == "right" else "right"
        left = canvas.width - 24 - width if side == "right" else 24.0
        canvas.box((left, top, left + width, top + height), own if side == "right" else theme.bubble, 16)
        letters = (255, 255, 255) if side == "right" else theme.letters
        for row, line in enumerate(lines):
            canvas.text((left + 18, top + 11 + LINE * row), line, TEXT, letters)
        minute += rng.randrange(1, 4)
        faint = (235, 240, 245) if side == "right" else theme.faint
        canvas.text((left + width - 12, top + height - 8), f"18:{minute:02d}", 13, faint, "rs")
        sides.append(side)
        top += height + 14
    return sides


def _frame(canvas: Canvas, theme: Theme, person: str, own: Colour) -> None:
    width = canvas.width
    canvas.box((0, 0, width, 84), theme.header)
    canvas.line([(0, 84), (width, 84)], theme.faint, 1)
    canvas.line([(36, 28), (22, 42), (36, 56)], theme.letters, 4)
    canvas.ellipse((58, 16, 110, 68), own)
    canvas.text((84, 42), person[:1], 26, (255, 255, 255), "mm", bold=True)
    canvas.text((126, 18), person, 24, theme.letters, bold=True)
    canvas.ellipse((128, 56, 138, 66), (60, 190, 90))
    canvas.line([(146, 61), (196, 61)], theme.faint, 6)
    for dot in range(3):
        canvas.ellipse((width - 34, 28 + 12 * dot, width - 28, 34 + 12 * dot), theme.letters)
    bottom = float(DESIGN_HEIGHT)
    canvas.box((0, bottom - 74, width, bottom), theme.header)
    canvas.box((24, bottom - 60, width - 92, bottom - 14), theme.background, 23)
    canvas.line([(46, bottom - 46), (46, bottom - 28)], theme.faint, 2)
    canvas.ellipse((width - 74, bottom - 62, width - 24, bottom - 12), own)
    canvas.polygon([(width - 58, bottom - 50), (width - 36, bottom - 37), (width - 58, bottom - 24)], (255, 255, 255))
