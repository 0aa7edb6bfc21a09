"""Tests that a bad base, template or picture is refused by name in every family, and never by a traceback."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from damaged_bases import change_config, copied
from PIL import Image
from tiny_families import TINY_SEEING, TINY_TEXT, write_base, write_vision_base
from tiny_sequential import SEEING, TINY_SEQUENTIAL, write_sequential_base

from trainables.data.images import MOST_PIXELS
from trainables.data.rows import Message, Row
from trainables.data.scan import load_encoder, scanned_row
from trainables.errors import UserError
from trainables.model.stored_base import read_base

WRITERS: Mapping[str, Callable[[str, Path], Path]] = {
    **dict.fromkeys(TINY_TEXT, write_base), **dict.fromkeys(TINY_SEEING, write_vision_base),
    **dict.fromkeys(TINY_SEQUENTIAL, write_sequential_base),
}  # fmt: skip
FAST = ("qwen3_vl", "gemma4")
EACH = pytest.mark.parametrize(
    "family", [one if one in FAST else pytest.param(one, marks=pytest.mark.slow) for one in WRITERS]
)
EACH_SEEING = pytest.mark.parametrize(
    "family",
    [one if one in FAST else pytest.param(one, marks=pytest.mark.slow) for one in (*TINY_SEEING, *SEEING)],
)
PLAIN = (
    "{% for m in messages %}{{ m.role + ': ' + (m.content if m.content is string else 'parts') }}<|im_end|>{% endfor %}"
)


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return cache(lambda family: WRITERS[family](family, tmp_path_factory.mktemp(family)))


def parts_of(config: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return where a configuration gives the shape of a tower."""
    return [(part,) for part in ("text_config", "vision_config") if isinstance(config.get(part), dict)] or [()]


def changed(base: Path, where: tuple[str, ...], key: str, value: Any) -> None:
    config = json.loads((base / "config.json").read_text())
    if where:
        change_config(base, **{where[0]: {**config[where[0]], key: value}})
    else:
        change_config(base, **{key: value})


@EACH
def test_a_configuration_that_contradicts_its_weights_is_refused(
    family: str, base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    config = json.loads((base_of(family) / "config.json").read_text())
    tried = 0
    for where in parts_of(config):
        values = config[where[0]] if where else config
        for key in ("num_hidden_layers", "depth", "hidden_size", "embed_dim", "intermediate_size", "vocab_size"):
            if not isinstance(values.get(key), int) or (family == "mistral3" and where == ("vision_config",)):
                continue  # the tower of Mistral 3 is not read
            for value in (values[key] + 8, values[key] - 1, 0, "four", None, -1, [1]):
                base = copied(base_of(family), tmp_path / str(tried))
                changed(base, where, key, value)
                with pytest.raises(UserError) as refused:
                    read_base(base)
                assert str(base) in refused.value.message and refused.value.hint
                tried += 1
    assert tried >= 14


@EACH_SEEING
def test_a_template_that_shows_no_picture_is_refused(
    family: str, base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    base = copied(base_of(family), tmp_path)
    (base / "chat_template.jinja").write_text(PLAIN)
    Image.effect_noise((64, 64), 60).convert("RGB").save(tmp_path / "picture.png")
    assert "every image must have one image token" in (problem_of(base, tmp_path / "picture.png") or "")


@EACH
def test_a_base_without_a_template_is_refused(family: str, base_of: Callable[[str], Path], tmp_path: Path) -> None:
    base = copied(base_of(family), tmp_path)
    (base / "chat_template.jinja").unlink()
    assert "chat template" in (problem_of(base) or "")


def problem_of(base: Path, *pictures: Path) -> str | None:
    """Return what is wrong with a row on a base."""
    text = f"{'<image>' * len(pictures)}What is it?"
    row = Row("one", (Message("user", text), Message("assistant", "A lamp.")), pictures)
    return scanned_row(row, load_encoder(base)).problem


def bomb(path: Path) -> None:
    """Write the header of a picture of 10,000 x 10,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = (header, data, b"IEND")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks))  # fmt: skip


@EACH_SEEING
def test_a_picture_beyond_the_limit_is_refused_and_an_extreme_one_is_used_or_refused(
    family: str, base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    bomb(tmp_path / "bomb.png")
    assert f"at most {MOST_PIXELS:,} pixels, but has 10,000 x 10,000" in (
        problem_of(base_of(family), tmp_path / "bomb.png") or ""
    )
    for number, size in enumerate(((900, 3), (3, 900), (1, 1), (2, 2), (400, 300))):
        Image.effect_noise(size, 60).convert("RGB").save(tmp_path / f"{number}.png")
        problem = problem_of(base_of(family), tmp_path / f"{number}.png")
        assert problem is None or "ratio" in problem or "height" in problem or "must" in problem, (size, problem)
        if size == (400, 300):
            assert problem is None, problem
