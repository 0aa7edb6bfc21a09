"""A picture being drawn at twice its size, with text, boxes and wrapped paragraphs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFont

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
Colour = tuple[int, int, int]
Size = tuple[int, int]
Box = tuple[float, float, float, float]
OVERSAMPLING = 2  # drawn larger and reduced, so that edges are smooth
DESIGN_HEIGHT = 768  # of the picture for which lengths are given


@dataclass(frozen=True)
class Fact:
    """A question about a picture, with what is accepted as its answer; `topic` is count, colour or position."""

    topic: str
    question: str
    accept: tuple[str, ...]


@dataclass(frozen=True)
class Drawing:
    """A finished picture of a kind, what it shows in a sentence, and facts about it."""

    kind: str
    image: Image.Image
    caption: str
    facts: tuple[Fact, ...] = ()


@lru_cache(maxsize=256)
def font(pixels: int, bold: bool = False, file: Path | None = None) -> ImageFont.FreeTypeFont:
    """Return a font of a height in pixels: that of the file, or DejaVu Sans as matplotlib ships it."""
    import matplotlib

    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(str(file or shipped), max(8, pixels), layout_engine=ImageFont.Layout.BASIC)


@dataclass
class Canvas:
    """Draws in units of a picture 768 high, so that any size looks alike; `width` is in these units."""

    size: Size
    background: Colour
    rng: Random
    font_file: Path | None = None
    image: Image.Image = field(init=False)
    draw: ImageDraw.ImageDraw = field(init=False)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (self.size[0] * OVERSAMPLING, self.size[1] * OVERSAMPLING), self.background)
        self.draw = ImageDraw.Draw(self.image)

    @property
    def unit(self) -> float:
        """Return the pixels of one unit while drawing."""
        return self.image.height / DESIGN_HEIGHT

    @property
    def width(self) -> float:
        """Return the width in units; the height is `DESIGN_HEIGHT`."""
        return self.image.width / self.unit

    def box(self, box: Box, fill: Colour | None, radius: float = 0.0, outline: Colour | None = None) -> None:
        """Draw a rectangle, with round corners if `radius` is above 0."""
        line = max(1, round(self.unit))
        self.draw.rounded_rectangle(self._pixels(box), radius * self.unit, fill, outline, line if outline else 0)

    def ellipse(self, box: Box, fill: Colour) -> None:
        """Draw an ellipse in a box."""
        self.draw.ellipse(self._pixels(box), fill)

    def polygon(self, points: list[tuple[float, float]], fill: Colour) -> None:
        """Draw a filled polygon."""
        self.draw.polygon([(x * self.unit, y * self.unit) for x, y in points], fill)

    def line(self, points: list[tuple[float, float]], fill: Colour, width: float = 2.0) -> None:
        """Draw a line through points."""
        scaled = [(x * self.unit, y * self.unit) for x, y in points]
        self.draw.line(scaled, fill, max(1, round(width * self.unit)), joint="curve")

    def pie(self, box: Box, start: float, end: float, fill: Colour) -> None:
        """Draw a slice from one angle in degrees to another, clockwise from three o'clock."""
        self.draw.pieslice(self._pixels(box), start, end, fill)

    def text(self, at: tuple[float, float], text: str, height: float, fill: Colour, anchor: str = "la",
             bold: bool = False) -> None:  # fmt: skip
        """Draw one line of text; `anchor` is Pillow's."""
        face = self._font(height, bold)
        self.draw.text((at[0] * self.unit, at[1] * self.unit), text, fill, face, anchor=anchor)

    def text_width(self, text: str, height: float, bold: bool = False) -> float:
        """Return the width of a line in units."""
        return self._font(height, bold).getlength(text) / self.unit

    def wrapped(self, text: str, height: float, width: float) -> list[str]:
        """Return the lines of a text that fit a width; a text without spaces is cut between letters."""
        lines: list[str] = []
        parts = text.split(" ") if " " in text else list(text)
        glue = " " if " " in text else ""
        for part in parts:
            joined = f"{lines[-1]}{glue}{part}" if lines else part
            if lines and self.text_width(joined, height) <= width:
                lines[-1] = joined
            else:
                lines.append(part)
        return lines

    def finished(self) -> Image.Image:
        """Return the picture in its size."""
        return self.image.reduce(OVERSAMPLING)

    def _font(self, height: float, bold: bool) -> ImageFont.FreeTypeFont:
        return font(round(height * self.unit), bold and self.font_file is None, self.font_file)

    def _pixels(self, box: Box) -> Box:
        left, top, right, bottom = (one * self.unit for one in box)
        return left, top, max(left, right), max(top, bottom)


def with_article(word: str) -> str:
    """Return a word with its indefinite article."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def counted(count: int) -> tuple[str, ...]:
    """Return how a number is written: in digits, and in a word."""
    return str(count), NUMBERS[count]


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """Return a colour between two, `share` of the way to the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
