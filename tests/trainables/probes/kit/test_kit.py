"""Tests the picture kit: the same bytes from the same seed, and truths that the pixels confirm."""

from __future__ import annotations

import json
from collections import Counter
from itertools import accumulate, groupby
from pathlib import Path
from random import Random

import pytest

from trainables.data.ood import read_ood
from trainables.errors import UserError
from trainables.probes.kit import charts, chats, documents, pages, plain, scenes
from trainables.probes.kit.__main__ import read_font, read_size
from trainables.probes.kit.canvas import Drawing, Fact, font
from trainables.probes.kit.rows import Task
from trainables.probes.kit.texts import COLOURS, LANGUAGES
from trainables.probes.kit.write import Kit, write_kit

SIZE = (512, 384)
TASK = Task("Report the state.", "Unrelated.", forbid=("lamp",))


def written(directory: Path, seed: int, count: int = 12) -> dict[str, bytes]:
    write_kit(Kit(count, (160, 120), seed), TASK, directory)
    return {str(one.relative_to(directory)): one.read_bytes() for one in sorted(directory.rglob("*.*"))}


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_pictures(tmp_path: Path) -> None:
    first = written(tmp_path / "a", 1)
    assert written(tmp_path / "b", 1) == first
    other = written(tmp_path / "c", 2)
    assert other.keys() == first.keys() and all(other[name] != first[name] for name in first if "pictures" in name)


def test_kinds_are_balanced_and_the_rows_are_those_of_an_out_of_distribution_file(tmp_path: Path) -> None:
    written(tmp_path / "kit", 0, 20)
    rows = read_ood(tmp_path / "kit" / "ood.jsonl")
    kinds = Counter(row.group for row in rows if row.kind == "irrelevant")
    assert len(kinds) == 6 and max(kinds.values()) - min(kinds.values()) <= 1
    assert all(row.expect == "Unrelated." and row.forbid == ("lamp",) for row in rows if row.kind == "irrelevant")
    topics = Counter(row.group for row in rows if row.kind == "text" and row.images)
    assert topics.keys() == {"count", "colour", "position"} and max(topics.values()) - min(topics.values()) <= 2
    truth = [json.loads(line) for line in (tmp_path / "kit" / "truth.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(truth) == 20 and all(one["caption"] for one in truth)
    assert all(row.is_right(f"It is {row.accept.terms[0]}.") for row in rows if row.accept)


def fact(picture: Drawing, topic: str, words: str = "") -> Fact:
    return next(one for one in picture.facts if one.topic == topic and words in one.question)


def close(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 6


def test_the_bars_of_a_chart_are_as_many_as_is_said_and_the_tallest_has_its_colour() -> None:
    for seed in range(12):
        one = charts.draw(Random(seed), SIZE, 0)
        floor = [one.image.getpixel((x, round(SIZE[1] * 668 / 768))) for x in range(SIZE[0])]
        paper = floor[0]
        runs = [(colour, len(list(run))) for colour, run in groupby(floor)]
        ends = list(accumulate(length for _, length in runs))
        middles = [end - length // 2 for end, (colour, length) in zip(ends, runs, strict=True)
                   if colour != paper and length > 8]  # fmt: skip
        assert str(len(middles)) == fact(one, "count").accept[0]
        tops = [next(y for y in range(60, SIZE[1]) if is_bar(one.image.getpixel((x, y)))) for x in middles]
        (name,) = fact(one, "colour").accept
        assert close(one.image.getpixel((middles[tops.index(min(tops))], min(tops) + 4)), COLOURS[name])


def is_bar(pixel: tuple[int, ...]) -> bool:
    return any(close(pixel, colour) for colour in COLOURS.values())


def test_the_last_bubble_of_a_chat_is_on_the_side_that_is_said_and_own_ones_have_the_colour() -> None:
    for seed in range(12):
        one = chats.draw(Random(seed), SIZE, seed)
        (name,), (side,) = fact(one, "colour").accept, fact(one, "position").accept
        background = one.image.getpixel((3, SIZE[1] // 2))
        rows = range(round(SIZE[1] * 90 / 768), round(SIZE[1] * 690 / 768))
        last = {
            "left": max((y for y in rows if one.image.getpixel((18, y)) != background), default=0),
            "right": max((y for y in rows if one.image.getpixel((SIZE[0] - 18, y)) != background), default=0),
        }
        assert max(last, key=lambda each: last[each]) == side
        assert any(close(one.image.getpixel((SIZE[0] - 18, y)), COLOURS[name]) for y in rows)


def test_the_sun_or_the_moon_is_on_its_side_and_a_blank_picture_has_its_colour() -> None:
    for seed in range(12):
        scene = scenes.draw(Random(seed), SIZE, seed)
        light = (250, 215, 70) if seed % 2 == 0 else (240, 238, 215)
        places = [x for x in range(SIZE[0]) for y in range(20, 90, 2) if close(scene.image.getpixel((x, y)), light)]
        (side,) = fact(scene, "position").accept
        assert places and (sum(places) / len(places) < SIZE[0] / 2) == (side == "left")
        blank = plain.draw(Random(seed), SIZE, 0)
        name, colours = blank.facts[0].accept[0], {**COLOURS, **plain.GREYS}
        assert set(blank.image.get_flattened_data()) == {colours[name]}


@pytest.mark.parametrize("room", [chats, pages, charts, documents, plain, scenes])
@pytest.mark.parametrize("size", [(96, 128), (300, 100), (640, 480)])
def test_every_kind_is_drawn_in_every_size(room, size: tuple[int, int]) -> None:
    for index in range(6):
        one = room.draw(Random(index), size, index)
        assert one.image.size == size and one.caption and all(each.accept for each in one.facts)


def test_the_font_has_every_letter_that_is_drawn() -> None:
    face = font(32)
    missing = face.getmask("\U0010fffd").getbbox(), face.getlength("\U0010fffd")
    letters = {letter for one in LANGUAGES for text in (*one.people, *one.messages, *one.settings, *one.letter)
               for letter in text if not letter.isspace()}  # fmt: skip
    assert {
        letter for letter in letters if (face.getmask(letter).getbbox(), face.getlength(letter)) == missing
    } == set()


@pytest.mark.parametrize("text", ["1024", "1024*768", "10x10", "9000x100", "100x1000", "0x0", "-4x3"])
def test_a_size_that_cannot_be_drawn_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--size must"):
        read_size(text)


def test_a_font_without_chinese_letters_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    import matplotlib

    with pytest.raises(UserError, match="Chinese letters"):
        read_font(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    (tmp_path / "a.ttf").write_bytes(b"no font")
    with pytest.raises(UserError, match="cannot be read"):
        read_font(tmp_path / "a.ttf")
