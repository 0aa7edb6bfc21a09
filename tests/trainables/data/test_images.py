"""Tests the rule for pictures: transformers' pixels, or a refusal that names the reason."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from trainables.data.images import MOST_PIXELS, picture_problem, read_picture
from trainables.data.rows import read_rows
from trainables.errors import UserError

if TYPE_CHECKING:
    from trainables.engine import Engine

NOISE = np.random.default_rng(3).integers(0, 256, (24, 40, 3), dtype=np.uint8)
Saved = Callable[[Path], None]


def saved(name: str, mode: str = "RGB", **options: Any) -> tuple[str, Saved]:
    def save(path: Path) -> None:
        Image.fromarray(NOISE).convert(mode).save(path, **options)

    return name, save


def rotated(orientation: int) -> tuple[str, Saved]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(f"orientation-{orientation}.jpg", exif=exif)


def opaque(path: Path) -> None:
    Image.fromarray(NOISE).convert("RGBA").save(path)


def with_unused_transparency(path: Path) -> None:
    image = Image.fromarray(NOISE).quantize(64)
    image.save(path, transparency=255)


GOOD = [
    saved("plain.png"), saved("grey.png", "L"), saved("black-and-white.png", "1"), saved("palette.png", "P"),
    saved("print.jpg", "CMYK"), saved("progressive.jpg", progressive=True), saved("plain.bmp"), saved("plain.webp"),
    saved("video.jpg", "YCbCr"), saved("one.gif", "P"), saved("plain.tiff"), saved("opaque.png", "RGBA"),
    ("opaque.webp", opaque), ("unused.gif", with_unused_transparency), *(rotated(number) for number in range(1, 9)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "save"), GOOD, ids=[name for name, _ in GOOD])
def test_a_picture_has_transformers_pixels(tmp_path: Path, name: str, save: Saved) -> None:
    from transformers.image_utils import load_image

    save(tmp_path / name)
    mine, theirs = read_picture(tmp_path / name), load_image(str(tmp_path / name))
    assert (mine.mode, mine.size) == (theirs.mode, theirs.size)
    assert mine.tobytes() == theirs.tobytes()
    assert picture_problem(tmp_path / name) is None


def grey_of(dtype: str) -> Saved:
    return lambda path: Image.fromarray(NOISE[..., 0].astype(dtype) * 200).save(path)


def sixteen_bit_colours(path: Path) -> None:
    """Write a PNG with 16 bits a channel, which Pillow reads but does not write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\x00" + bytes(2 * 3 * 4) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
                     + chunk(b"IEND", b""))  # fmt: skip


def frames(path: Path) -> None:
    images = [Image.fromarray(np.roll(NOISE, shift, axis=0)) for shift in range(3)]
    images[0].save(path, save_all=True, append_images=images[1:])


def see_through(mode: str) -> Saved:
    def save(path: Path) -> None:
        image = Image.fromarray(NOISE).convert(mode)
        image.putalpha(Image.fromarray(np.where(NOISE[..., 0] > 250, 254, 255).astype(np.uint8)))
        image.save(path)

    return save


def transparent_palette(path: Path) -> None:
    Image.fromarray(NOISE).quantize(16).save(path, transparency=3)


def transparent_grey(path: Path) -> None:
    Image.fromarray(NOISE[..., 0]).save(path, transparency=int(NOISE[0, 0, 0]))


def huge(path: Path) -> None:
    Image.new("1", (10_000, MOST_PIXELS // 10_000 + 1)).save(path)


def cut(path: Path) -> None:
    Image.fromarray(NOISE).save(path)
    path.write_bytes(path.read_bytes()[:-400])


def postscript(path: Path) -> None:
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n")


def text_bomb() -> bytes:
    """Return a PNG of 4 x 4 pixels whose comment takes 30 MB when it is decompressed."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, rows = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0), zlib.compress((b"\x00" + bytes(12)) * 4)
    zeros = zlib.compressobj()
    bomb = b"".join(zeros.compress(bytes(10**6)) for _ in range(30)) + zeros.flush()
    parts = (chunk(b"IHDR", header), chunk(b"zTXt", b"a\0\0" + bomb), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def icon(path: Path) -> None:
    """Write an icon that claims 16 x 16 pixels and holds a PNG of 100 million."""
    import io
    import struct

    inner = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(inner, "PNG")
    held = inner.getvalue()
    path.write_bytes(struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(held), 22) + held)


BAD = [
    ("grey16.png", grey_of("uint16"), "must have 8 bits a channel"),
    ("grey16.tiff", grey_of("uint16"), "must have 8 bits a channel"),
    ("grey32.tiff", grey_of("int32"), "must have 8 bits a channel"),
    ("float.tiff", grey_of("float32"), "must have 8 bits a channel"),
    ("grey16.pgm", grey_of("uint16"), "must have 8 bits a channel"),
    ("colour16.png", sixteen_bit_colours, "must have 8 bits a channel"),
    ("frames.gif", frames, "must have one frame, but has 3"),
    ("frames.png", frames, "must have one frame, but has 3"),
    ("frames.webp", frames, "must have one frame, but has 3"),
    ("frames.tiff", frames, "must have one frame, but has 3"),
    ("rgba.png", see_through("RGB"), "must have no transparent pixels"),
    ("rgba.webp", see_through("RGB"), "must have no transparent pixels"),
    ("la.png", see_through("L"), "must have no transparent pixels"),
    ("palette.png", transparent_palette, "must have no transparent pixels"),
    ("palette.gif", transparent_palette, "must have no transparent pixels"),
    ("grey.png", transparent_grey, "must have no transparent pixels"),
    ("huge.png", huge, "must have at most 89,478,485 pixels"),
    ("cut.png", cut, "must be readable, but"),
    ("page.eps", postscript, "must be readable, but is none of AVIF, BMP, GIF"),
    ("nothing.png", lambda path: path.write_bytes(b""), "must be readable, but is none of AVIF, BMP, GIF"),
    ("text.png", lambda path: path.write_bytes(text_bomb()), "must be readable, but"),
    ("inside.ico", icon, "must be readable, but is none of AVIF, BMP, GIF"),
    ("gzip.png", lambda path: path.write_bytes(gzip.compress(bytes(10**7))),
     "must be readable, but is none of AVIF, BMP, GIF"),
    ("gzip.fits", lambda path: path.write_bytes(b"SIMPLE  =                    T" + gzip.compress(bytes(10**7))),
     "must be readable, but is none of AVIF, BMP, GIF"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "save", "expected"), BAD, ids=[name for name, _, _ in BAD])
def test_a_picture_that_would_lose_something_is_refused(tmp_path: Path, name: str, save: Saved, expected: str) -> None:
    save(tmp_path / name)
    tracemalloc.start()
    try:
        assert (picture_problem(tmp_path / name) or "").startswith(expected)
        assert tracemalloc.get_traced_memory()[1] < 2**24, "the bomb has not gone off"
    finally:
        tracemalloc.stop()
    with pytest.raises(UserError) as caught:
        read_picture(tmp_path / name)
    assert caught.value.message.startswith(f"{tmp_path / name}: an image {expected}")


def test_no_program_is_run_to_read_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    program, ran = tmp_path / "gs", tmp_path / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    postscript(tmp_path / "page.png")
    assert picture_problem(tmp_path / "page.png")
    assert not ran.exists()
    with pytest.raises(OSError), Image.open(tmp_path / "page.png") as image:
        image.load()
    assert ran.exists(), "so Pillow itself would have run it"


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge(tmp_path / "huge.png")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded"))
    assert "89,478,485" in (picture_problem(tmp_path / "huge.png") or "")


@pytest.mark.parametrize(("name", "save"), [("grey16.png", grey_of("uint16")), rotated(6)])
def test_training_reads_pictures_by_the_rule(engine: Engine, tmp_path: Path, name: str, save: Saved) -> None:
    """What the checks accept, the encoder sees upright; what they refuse, it refuses."""
    save(tmp_path / name)
    row = {"messages": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "a lamp"}],
           "images": [name]}  # fmt: skip
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    [read] = read_rows(tmp_path / "rows.jsonl")
    if picture_problem(tmp_path / name):
        with pytest.raises(UserError, match="must have 8 bits a channel"):
            engine.encoder.conversation(read)
        return
    upright = engine.base.image_processor(images=[read_picture(tmp_path / name)], return_tensors="pt")
    [view] = engine.encoder.conversation(read).views
    assert engine.encoder.pixels(view).values.equal(upright["pixel_values"])
    assert read_picture(tmp_path / name).size == (24, 40)
