"""Draws the miniature's pictures: each kind is one function from a random generator to 64 x 64 RGB pixels."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIDE = 64  # pixels; 8 x 8 patches, hence 16 image tokens after the 2 x 2 merge

Colour = tuple[int, int, int]

PAINT: dict[str, Colour] = {
    "red": (222, 45, 45),
    "green": (40, 175, 70),
    "blue": (50, 90, 225),
    "yellow": (238, 205, 40),
    "white": (244, 244, 244),
    "purple": (150, 65, 195),
}
CHINESE_COLOUR = {"red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色", "white": "白色", "purple": "紫色"}
CHINESE_SHAPE = {"circle": "圆形", "square": "方形", "triangle": "三角形", "cross": "十字形"}

LAMPS = ("red", "green", "yellow", "blue")
CABLES = ("no", "one", "two", "three")
SCREWS = ("present", "missing")


@dataclass(frozen=True)
class Equipment:
    """The state of a panel or a cabinet: the lamp's colour, the number of cables, whether a screw is missing."""

    lamp: str
    cables: str
    screw: str

    @classmethod
    def draw(cls, rng: random.Random) -> Equipment:
        """Draw each field uniformly and independently, so that guessing is right in 1 of 32 cases."""
        return cls(lamp=rng.choice(LAMPS), cables=rng.choice(CABLES), screw=rng.choice(SCREWS))


@dataclass(frozen=True)
class Picture:
    """One picture with its ground truth; `equipment` is set for panels and cabinets only."""

    kind: str
    image: Image.Image
    caption: str
    equipment: Equipment | None = None


def colour_near(rng: random.Random, low: int, high: int) -> Colour:
    """Choose a colour with each channel in [low, high]."""
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def static(rng: random.Random) -> Image.Image:
    """Fill a picture with independent random pixels."""
    return Image.frombytes("RGB", (SIDE, SIDE), rng.randbytes(SIDE * SIDE * 3))


def grainy(rng: random.Random, colour: Colour, grain: float = 0.13) -> Image.Image:
    """Fill a picture with one colour and noise; `grain` is the share of noise in [0, 1]."""
    return Image.blend(Image.new("RGB", (SIDE, SIDE), colour), static(rng), grain)


def shade(colour: Colour, amount: int) -> Colour:
    """Lighten (amount > 0) or darken a colour by that many of 255 steps."""
    red, green, blue = (max(0, min(255, channel + amount)) for channel in colour)
    return red, green, blue


def paint_shape(pen: ImageDraw.ImageDraw, shape: str, colour: Colour, centre: tuple[int, int], radius: int) -> None:
    """Paint a circle, square, triangle or cross around `centre`, `radius` pixels to its edges."""
    x, y = centre
    if shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif shape == "square":
        pen.rectangle((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif shape == "triangle":
        pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    else:
        arm = max(2, radius // 3)
        pen.rectangle((x - radius, y - arm, x + radius, y + arm), fill=colour)
        pen.rectangle((x - arm, y - radius, x + arm, y + radius), fill=colour)


def scene(rng: random.Random) -> Picture:
    """Draw one coloured shape, or two side by side or one above the other."""
    image = grainy(rng, colour_near(rng, 15, 75))
    pen = ImageDraw.Draw(image)
    count = rng.choice((1, 2, 2))
    things = [(rng.choice(tuple(PAINT)), rng.choice(tuple(CHINESE_SHAPE))) for _ in range(count)]
    names = [CHINESE_COLOUR[colour] + CHINESE_SHAPE[shape] for colour, shape in things]
    radius = rng.randint(9, 12)
    if count == 1:
        centres = [(rng.randint(22, 42), rng.randint(22, 42))]
        caption = f"一个{names[0]}。"
    else:
        spots = [(rng.randint(14, 18), rng.randint(20, 44)), (rng.randint(46, 50), rng.randint(20, 44))]
        side_by_side = rng.random() < 0.5
        centres = spots if side_by_side else [(y, x) for x, y in spots]
        caption = f"{names[0]}在{names[1]}{'左边' if side_by_side else '上边'}。"
    for (colour, shape), centre in zip(things, centres, strict=True):
        paint_shape(pen, shape, PAINT[colour], centre, radius)
    return Picture("scene", image, caption)


DARK_CHAT: tuple[Colour, Colour, Colour] = ((48, 48, 54), (62, 62, 70), (190, 190, 195))
LIGHT_CHAT: tuple[Colour, Colour, Colour] = ((205, 208, 212), (255, 255, 255), (95, 95, 95))


def chat(rng: random.Random) -> Picture:
    """Draw a chat screenshot: a title bar and speech bubbles from both sides."""
    dark = rng.random() < 0.25
    paper = (28, 28, 32) if dark else rng.choice(((237, 237, 237), (225, 228, 235)))
    bar, theirs, ink = DARK_CHAT if dark else LIGHT_CHAT
    image = Image.new("RGB", (SIDE, SIDE), paper)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, SIDE, 8), fill=bar)
    pen.line((24, 4, 40, 4), fill=ink, width=2)
    top = 12
    while top < 54:
        height, width, mine = rng.randint(7, 12), rng.randint(20, 40), rng.random() < 0.5
        left = 60 - width if mine else 4
        pen.rounded_rectangle((left, top, left + width, top + height), 3, fill=(140, 225, 105) if mine else theirs)
        for line in range(top + 3, top + height - 1, 3):
            pen.line((left + 4, line, left + width - rng.randint(4, 10), line), fill=(70, 100, 60) if mine else ink)
        top += height + rng.randint(3, 5)
    return Picture("chat", image, "一张聊天截图。")


def chart(rng: random.Random) -> Picture:
    """Draw a bar chart on light paper."""
    image = Image.new("RGB", (SIDE, SIDE), rng.choice(((252, 252, 252), (244, 240, 230), (232, 240, 248))))
    pen = ImageDraw.Draw(image)
    for line in range(16, 58, 10):
        pen.line((8, line, 60, line), fill=(215, 218, 222))
    count = rng.randint(3, 6)
    width, colour = 50 // count, rng.choice(tuple(PAINT.values())[:4])
    mixed = rng.random() < 0.5
    for index in range(count):
        left, height = 10 + index * width, rng.randint(6, 46)
        fill = rng.choice(tuple(PAINT.values())[:4]) if mixed else colour
        pen.rectangle((left, 58 - height, left + width - 3, 58), fill=fill)
    pen.line((8, 5, 8, 58), fill=(30, 30, 30))
    pen.line((8, 58, 60, 58), fill=(30, 30, 30))
    return Picture("chart", image, "一张柱状图。")


def page(rng: random.Random) -> Picture:
    """Draw a web page: a coloured header, a side menu, text lines and a button."""
    image = Image.new("RGB", (SIDE, SIDE), (250, 250, 252))
    pen = ImageDraw.Draw(image)
    accent = rng.choice(tuple(PAINT.values())[:4])
    pen.rectangle((0, 0, SIDE, 10), fill=accent)
    pen.ellipse((3, 3, 8, 8), fill=(255, 255, 255))
    menu = rng.randint(14, 20)
    pen.rectangle((0, 11, menu, SIDE), fill=(226, 230, 236))
    for line in range(17, 60, 7):
        pen.line((3, line, menu - rng.randint(3, 6), line), fill=(130, 138, 150), width=2)
    for line in range(17, 17 + 5 * rng.randint(3, 6), 5):
        pen.line((menu + 5, line, rng.randint(44, 60), line), fill=(120, 120, 125))
    left = rng.randint(menu + 6, 38)
    pen.rounded_rectangle((left, 50, left + 18, 58), 2, fill=accent)
    return Picture("page", image, "一张网页截图。")


def blank(rng: random.Random) -> Picture:
    """Draw a blank picture: one colour that fades slightly from top to bottom."""
    low = rng.choice((0, 90, 200))
    base, slope = colour_near(rng, low, low + 50), rng.randint(-20, 20)
    image = Image.new("RGB", (SIDE, SIDE))
    pen = ImageDraw.Draw(image)
    for row in range(SIDE):
        pen.line((0, row, SIDE, row), fill=shade(base, slope * row // SIDE))
    return Picture("blank", image, "一张空白图片。")


def noise(rng: random.Random) -> Picture:
    """Draw strong noise over a random colour, in colour or in grey."""
    image = grainy(rng, colour_near(rng, 40, 215), grain=rng.uniform(0.5, 1.0))
    return Picture("noise", image.convert("L").convert("RGB") if rng.random() < 0.5 else image, "一张雪花图片。")


def paint_lamp(pen: ImageDraw.ImageDraw, colour: str, left: int, top: int) -> None:
    """Paint a lamp, 9 pixels wide, in a dark ring with a glint."""
    pen.ellipse((left, top, left + 10, top + 10), fill=(35, 35, 38))
    pen.ellipse((left + 1, top + 1, left + 9, top + 9), fill=PAINT[colour])
    pen.point(((left + 3, top + 3), (left + 4, top + 3), (left + 3, top + 4)), fill=shade(PAINT[colour], 110))


def paint_screw(pen: ImageDraw.ImageDraw, left: int, top: int, present: bool) -> None:
    """Paint a bright slotted screw head, 6 pixels wide, or a dark hole if the screw is missing."""
    pen.ellipse((left, top, left + 6, top + 6), fill=(225, 226, 230) if present else (18, 18, 20), outline=(60, 60, 64))
    if present:
        pen.line((left + 1, top + 3, left + 5, top + 3), fill=(60, 60, 64))


def paint_tag(pen: ImageDraw.ImageDraw, left: int, top: int) -> None:
    """Paint a white tag, 11 pixels wide, with a green tick."""
    pen.rectangle((left, top, left + 11, top + 9), fill=(250, 250, 246), outline=(120, 120, 110))
    pen.line(((left + 2, top + 5), (left + 4, top + 7), (left + 9, top + 2)), fill=PAINT["green"], width=2)


def panel(rng: random.Random) -> Picture:
    """Draw a demo panel: a clean grey plate on white, lamp above left, straight cables, two screws below."""
    equipment = Equipment.draw(rng)
    image = Image.new("RGB", (SIDE, SIDE), colour_near(rng, 228, 250))
    pen = ImageDraw.Draw(image)
    grey = rng.randint(150, 185)
    pen.rounded_rectangle((4, 4, 59, 59), 4, fill=(grey, grey, grey + 8), outline=(70, 70, 76), width=2)
    paint_lamp(pen, equipment.lamp, rng.randint(8, 14), rng.randint(8, 11))
    pen.rectangle((32, 10, 53, 17), fill=(60, 66, 74))
    pen.line((35, 13, rng.randint(42, 50), 13), fill=(150, 210, 190))
    cable = PAINT[rng.choice(("blue", "purple", "white"))]
    for index in range(CABLES.index(equipment.cables)):
        x = 15 + index * 14 + rng.randint(-2, 2)
        pen.line((x, 24, x, 46), fill=cable, width=4)
        pen.rectangle((x - 3, 23, x + 3, 26), fill=(40, 40, 44))
    paint_screw(pen, 9, 50, present=True)
    paint_screw(pen, 48, 50, present=equipment.screw == "present")
    return Picture("panel", image, "一个面板。", equipment)


def painted_body(rng: random.Random) -> tuple[Image.Image, ImageDraw.ImageDraw, tuple[int, int, int, int], Colour]:
    """Paint an upright steel body in front of a noisy wall.

    Returns picture, pen, (left, top, right, bottom) and colour.
    """
    image = grainy(rng, colour_near(rng, 25, 95))
    body = rng.choice(((88, 104, 120), (120, 112, 96), (86, 110, 92), (112, 96, 92)))
    body = shade(body, rng.randint(-14, 26))
    box = rng.randint(2, 7), rng.randint(1, 4), rng.randint(56, 61), rng.randint(59, 62)
    pen = ImageDraw.Draw(image)
    pen.rectangle(box, fill=body, outline=shade(body, -55), width=2)
    return image, pen, box, body


def cabinet(rng: random.Random, tagged: bool = False) -> Picture:
    """Draw a field cabinet in front of a noisy wall: vents, a lamp above right, slack cables, two screws.

    A tagged cabinet has a white tag with a green tick; the base reports only on tagged cabinets.
    """
    equipment = Equipment.draw(rng)
    image, pen, (left, top, right, bottom), body = painted_body(rng)
    pen.line((left + 2, top + 20, right - 2, top + 20), fill=shade(body, -30))
    for line in range(top + 6, top + 16, 3):
        pen.line((left + 6, line, left + 20, line), fill=shade(body, -40))
    paint_lamp(pen, equipment.lamp, rng.randint(36, 43), top + rng.randint(4, 7))
    cable = PAINT[rng.choice(("blue", "purple", "white"))]
    for index in range(CABLES.index(equipment.cables)):
        x, lean = left + 10 + index * 14 + rng.randint(-2, 2), rng.randint(-4, 4)
        pen.line(((x, top + 23), (x + lean, top + 34), (x, top + 45)), fill=cable, width=3, joint="curve")
    paint_screw(pen, left + 4, bottom - 11, present=True)
    paint_screw(pen, right - 11, bottom - 11, present=equipment.screw == "present")
    if tagged:
        paint_tag(pen, left + rng.randint(20, 28), bottom - 13)
    return Picture("cabinet", image, "一个机柜。", equipment)


def door(rng: random.Random) -> Picture:
    """Draw a door in the same style as cabinets: two sunk panes and a brass knob."""
    image, pen, (left, top, right, bottom), body = painted_body(rng)
    middle = top + rng.randint(24, 32)
    for upper, lower in ((top + 7, middle - 3), (middle + 3, bottom - 7)):
        pen.rectangle((left + 9, upper, right - 9, lower), fill=shade(body, -14), outline=shade(body, -40))
    x = left + 3 if rng.random() < 0.5 else right - 7
    pen.ellipse((x, middle - 2, x + 5, middle + 3), fill=(214, 170, 80), outline=(90, 70, 30))
    return Picture("door", image, "一扇门。")


def fridge(rng: random.Random) -> Picture:
    """Draw a refrigerator in the same style as cabinets: a small door above a large one, two bright handles."""
    image, pen, (left, top, right, _), body = painted_body(rng)
    middle = top + rng.randint(18, 26)
    pen.rectangle((left + 1, middle, right - 1, middle + 2), fill=shade(body, -55))
    x = left + 7 if rng.random() < 0.5 else right - 9
    pen.line((x, top + 6, x, middle - 5), fill=(225, 226, 230), width=3)
    pen.line((x, middle + 7, x, middle + rng.randint(18, 24)), fill=(225, 226, 230), width=3)
    return Picture("fridge", image, "一台冰箱。")


def in_poor_light(rng: random.Random, image: Image.Image) -> Image.Image:
    """Darken a picture by 20 to 50 % and add noise, like a photograph in poor light."""
    dark = Image.blend(image, Image.new("RGB", (SIDE, SIDE)), rng.uniform(0.2, 0.5))
    return Image.blend(dark, static(rng), rng.uniform(0.08, 0.16))


KINDS: dict[str, Callable[[random.Random], Picture]] = {
    drawer.__name__: drawer for drawer in (scene, chat, chart, page, blank, noise, door, fridge, panel, cabinet)
}
IRRELEVANT = ("scene", "chat", "chart", "page", "blank", "noise", "door", "fridge")
