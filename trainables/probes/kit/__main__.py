"""Writes a kit of pictures with rows about them, for the probes of a base that sees.

footprint data kit --out kit --size 1024x768 --n 200 --task-prompt "Report the state." --refusal "无关图片"
footprint data kit --out kit --font NotoSansSC-Regular.otf      with chats and letters in Chinese
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw, ImageFont

from trainables.command import run
from trainables.errors import UserError, quoted
from trainables.probes.kit.canvas import font
from trainables.probes.kit.rows import Task
from trainables.probes.kit.texts import CHINESE
from trainables.probes.kit.write import ROWS, SHEET, Kit, write_kit

LEAST_SIDE, LARGEST_SIDE = 64, 4096  # pixels
LONGEST_RATIO = 3.0  # of the sides; beyond it the drawings do not fit
MOST_PICTURES = 5000


def read_size(text: str) -> tuple[int, int]:
    """Read `WIDTHxHEIGHT` in pixels.

    Raises:
        UserError: it is not written so, or too small, too large or too narrow to draw.
    """
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if not found:
        raise UserError(f"--size must be WIDTHxHEIGHT in pixels, but got {quoted(text)}", "--size 1024x768")
    width, height = int(found[1]), int(found[2])
    if min(width, height) < LEAST_SIDE or max(width, height) > LARGEST_SIDE:
        raise UserError(
            f"--size must have sides of {LEAST_SIDE} to {LARGEST_SIDE} pixels, but got {text}", "--size 1024x768"
        )
    if not 0.75 <= width / height <= LONGEST_RATIO:
        raise UserError(
            f"--size must be 0.75 to {LONGEST_RATIO:g} times as wide as high, but got {text}", "--size 1024x768"
        )
    return width, height


def read_font(file: Path | None) -> Path | None:
    """Check that a font can be read and has Chinese letters.

    Raises:
        UserError: it cannot, or has not.
    """
    if file is None:
        return None
    try:
        face = font(32, False, file)
    except OSError as error:
        raise UserError(f"--font must be a TrueType or OpenType font, but {file} cannot be read: {error}") from None
    if _drawn(face, CHINESE.messages[0][0]) == _drawn(face, "\U0010fffd"):  # which no font has
        raise UserError(f"--font must have Chinese letters, but {file} has none", "leave --font out, or name another")
    return file


def _drawn(face: ImageFont.FreeTypeFont, letter: str) -> bytes:
    image = Image.new("L", (64, 64))
    ImageDraw.Draw(image).text((8, 8), letter, 255, face)
    return image.tobytes()


def main(  # noqa: PLR0913, PLR0917 the options of the command line
    out: Annotated[Path, typer.Option(help="New directory.")],
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels.")] = "1024x768",
    n: Annotated[int, typer.Option("--n", min=6, max=MOST_PICTURES, help="Pictures.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures.")] = 0,
    task_prompt: Annotated[
        str, typer.Option(help="What your model is asked about each picture.")
    ] = "Report the state.",
    refusal: Annotated[
        str, typer.Option(help="The agreed answer to a picture outside the task.")
    ] = "Unrelated picture.",
    system: Annotated[str, typer.Option(help="The system message of your task.", show_default="none")] = "",
    forbid: Annotated[str, typer.Option(help="Terms of your task, joined by commas.", show_default="none")] = "",
    font_file: Annotated[
        Path | None, typer.Option("--font", help="A font with Chinese letters.", show_default="DejaVu Sans")
    ] = None,
) -> None:
    """Write pictures outside any task, rows about them as an --ood file, and a contact sheet to look at."""
    if out.exists():
        raise UserError(f"--out must be a new directory, but {out} exists", "choose another name")
    kit = Kit(n, read_size(size), seed, read_font(font_file))
    terms = tuple(term for one in forbid.split(",") if (term := one.strip()))
    counts = write_kit(kit, Task(task_prompt, refusal, system, terms), out)
    named = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
    typer.echo(f"{out}: {n:,} pictures, rows: {named}\nlook at {out / SHEET}, then pass --ood {out / ROWS}")


if __name__ == "__main__":
    run(main)
