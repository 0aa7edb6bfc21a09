"""Reads pictures by one rule, wherever they are read: checks, training, evals and crops.

A picture is turned upright as its EXIF orientation says and converted to RGB with 8 bits a channel: the pixels of
transformers' `load_image`. A file is refused where this would lose or invent something: more than 8 bits a channel or
floating point (Pillow cuts the values off), several frames (all but the first would be lost), transparent pixels (what
is behind them is unknown; an alpha channel that is opaque everywhere is accepted), or more pixels than Pillow's limit
against decompression bombs. Sizes are checked before anything is decoded. Only formats that Pillow decodes by
itself are read.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.data.formats import IMAGE_TAG, Message
from trainables.errors import UserError, named
from trainables.io.files import resolved
from trainables.local_paths import local_path

if TYPE_CHECKING:
    from PIL import Image

Crop = tuple[float, float, float]
MOST_PIXELS = 89_478_485  # PIL.Image.MAX_IMAGE_PIXELS, which a program may change
# Pillow reads many more, some through programs such as Ghostscript, which would run what a file holds
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
WIDE_CHANNELS = re.compile(
    r"^(?!BGR).*;(?:16|32|64)"
)  # Pillow's name of a file's layout; BGR;16 has 5 or 6 bits a channel


def picture_files(names: Sequence[str], messages: Iterable[Message], directory: Path, where: str) -> tuple[Path, ...]:
    """Return the files of a row's pictures, relative to `directory`.

    Raises:
        UserError: the number of images and of tags differ, an answer holds a tag, or a file does not exist.
    """
    turns = list(messages)
    if any(IMAGE_TAG in message.text for message in turns if message.role == "assistant"):
        raise UserError(
            f"{where}: an answer must be text, but one holds `{IMAGE_TAG}`, which stands for a picture",
            "a model answers in words; move the picture to the question, or remove the tag",
        )
    tags = sum(message.text.count(IMAGE_TAG) for message in turns)
    if tags != len(names):
        raise UserError(f"{where}: every image needs one `{IMAGE_TAG}`, but got {tags} for {len(names)} images")
    images = tuple(_resolved(directory, name, f"{where}: the image `{named(name)}`") for name in names)
    for name, image in zip(names, images, strict=True):
        if not image.is_file():
            raise UserError(f"{where}: the image `{named(name)}` must exist, but {image} does not",
                            f"paths are relative to {directory}")  # fmt: skip
    return images


def _resolved(directory: Path, name: str, what: str) -> Path:
    return resolved(directory / local_path(name, what), what)


def read_picture(path: Path, crop: Crop | None = None) -> Image.Image:
    """Read a picture as RGB, whole or cropped to (left, top, side) in fractions of its size and enlarged to it.

    Raises:
        UserError: the file is no picture, or one that is refused; names the file and the reason.
    """
    from PIL import Image

    picture = _read(path)
    if isinstance(picture, str):
        raise UserError(f"{path}: an image {picture}", "replace or shrink it, or drop its row")
    if crop is None:
        return picture
    left, top, side = crop
    width, height = picture.size
    box = (left * width, top * height, (left + side) * width, (top + side) * height)
    return picture.resize((width, height), Image.Resampling.BILINEAR, box=box)


def picture_problem(path: Path) -> str | None:
    """Read a picture completely, as training does; return what it must be and is not, None if it can be used."""
    picture = _read(path)
    return picture if isinstance(picture, str) else None


def _read(path: Path) -> Image.Image | str:
    """Return the picture, or why it cannot be used."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes and of palettes: both are judged here
            with Image.open(path, formats=FORMATS) as image:
                problem = _header_problem(image)
                if problem is None:
                    image.load()
                    problem = _transparency(image)
                return problem or ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        return f"must be readable, but is none of {', '.join(FORMATS)}"
    # the exceptions of PIL's decoders for invalid bytes
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        return f"must be readable, but {named(str(error))}"


def _header_problem(image: Any) -> str | None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        return f"must have at most {MOST_PIXELS:,} pixels, but has {width:,} x {height:,}; shrink it"
    layouts = [str(part) for tile in image.tile for part in (tile[3] if isinstance(tile[3], tuple) else (tile[3],))]
    if image.mode.startswith(("I", "F")) or any(WIDE_CHANNELS.search(layout) for layout in layouts):
        return f"must have 8 bits a channel, but has more ({layouts[0] if layouts else image.mode})"
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        return f"must have one frame, but has {frames}"
    return None


def _transparency(image: Image.Image) -> str | None:
    if not image.has_transparency_data:
        return None
    opaque = image.convert("RGBA").getchannel("A").histogram()[255]
    return "must have no transparent pixels, but has some" if opaque < image.width * image.height else None
