"""Checks the images of a row: one per `<image>` tag, existing files, decodable images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.data.formats import IMAGE_TAG, Message
from trainables.errors import UserError, named, quoted
from trainables.io.files import resolved

Crop = tuple[float, float, float]


def picture_names(values: Mapping[str, Any], where: str) -> list[str]:
    """Return the `images` of a row as its file names them.

    Raises:
        UserError: the value is not a list of paths.
    """
    names = values.get("images") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}: `images` must be a list of paths, but got {quoted(names)}")
    return names


def picture_files(names: Sequence[str], messages: Iterable[Message], directory: Path, where: str) -> tuple[Path, ...]:
    """Return the files of a row's pictures, relative to `directory`.

    Raises:
        UserError: the number of images and of tags differ, or a file does not exist.
    """
    tags = sum(message.text.count(IMAGE_TAG) for message in messages)
    if tags != len(names):
        raise UserError(f"{where}: every image needs one `{IMAGE_TAG}`, but got {tags} for {len(names)} images")
    images = tuple(resolved(directory / name, f"{where}: the image `{named(name)}`") for name in names)
    for name, image in zip(names, images, strict=True):
        if not image.is_file():
            raise UserError(f"{where}: the image `{named(name)}` must exist, but {image} does not",
                            f"paths are relative to {directory}")  # fmt: skip
    return images


def unreadable(path: Path) -> str | None:
    """Decode an image completely, as training does; return why this failed, None if it succeeded."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    # the exceptions of PIL's decoders for invalid bytes
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        return named(str(error))
    return None
