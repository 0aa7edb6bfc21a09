"""Tests all row formats on real files: the same conversations in any format give the same rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainables.data.formats import Message
from trainables.data.normalize import normalize_row
from trainables.data.rows import Row, read_rows, read_validation
from trainables.errors import UserError

FILES = Path(__file__).parent / "files"
LAMP = (
    Message("system", "Inspect."), Message("user", "<image>\nWhat is it?"), Message("assistant", "a lamp"),
    Message("user", "Which colour?"), Message("assistant", "yellow 🟡"),
)  # fmt: skip
SUM = (Message("user", "What is two plus three?\nOne word."), Message("assistant", "five"))
SAME = [
    "messages.jsonl", "parts.jsonl", "sharegpt.json", "alpaca.json", "dataset_info.json:shared",
    "dataset_info.json:foreign", "dataset_info.json:openai", "dataset_info.json:columns",
]  # fmt: skip
ANSWER = {"role": "assistant", "content": "a lamp"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FILES, tmp_path / "data"))


@pytest.fixture
def refused(folder: Path) -> Callable[..., str]:
    """Write a valid row and a broken one; return the error, without the file's name."""

    def read(row: Any, name: str = "rows.jsonl") -> str:
        path = folder / name
        lines = [json.dumps({"prompt": "Hi?", "response": "hello"}), row if isinstance(row, str) else json.dumps(row)]
        path.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(UserError) as caught:
            read_rows(path)
        assert caught.value.exit_code == 2
        return str(caught.value).replace(f"{path}:2: ", "")

    return read


@pytest.mark.parametrize("name", SAME)
def test_one_conversation_is_one_row_in_every_format(name: str) -> None:
    lamp, total = read_rows(FILES / name)
    assert (lamp.messages, total.messages) == (LAMP, SUM)
    assert (lamp.images, total.images) == ((FILES / "lamp.png",), ())
    named_by_line = name.endswith(":foreign")
    assert (lamp.row_id, total.row_id) == (("2", "5") if named_by_line else ("lamp", "sum"))


def test_prompt_and_response() -> None:
    lamp, total = read_rows(FILES / "prompt.jsonl")
    assert lamp == Row("lamp", LAMP[:3], (FILES / "lamp.png",))
    assert total.messages == SUM


@pytest.mark.parametrize("name", ["text.jsonl", "dataset_info.json:documents"])
def test_a_text_is_read_unchanged(name: str) -> None:
    first, second = read_rows(FILES / name)
    assert first.answer.endswith("assistant\nls -a<|im_end|>\n")  # what a template once rendered is not taken apart
    assert (first.is_completion, first.prompt, first.row_id, second.row_id) == (True, (), "1", "2")


def test_a_validation_row_must_have_a_question(folder: Path) -> None:
    with pytest.raises(UserError, match="1 of 2 are `text` that no known template rendered"):
        read_validation(folder / "text.jsonl")
    assert len(read_validation(folder / "prompt.jsonl")) == 2


# -------------------------------------------------------------------- the row
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [ANSWER], "text": "x"}, "a row must be of one format, but it has `messages`, `text`"),
        ({"prompt": "a", "response": "b", "instruction": "c"}, "it has `prompt`, `instruction`"),
        ({"promt": "a", "response": "b"}, "must have one of `messages`, `conversations`, `text`, `prompt`"),
        ({"promt": "a", "response": "b"}, "did you mean `prompt`?"),
        ({}, "but its keys are none"),
        ({"prompt": "a", "response": "b", "imges": ["x"]}, "`imges` is not a key of a row with `prompt`"),
        ({"prompt": "a", "response": "b", "imges": ["x"]}, "did you mean `images`?"),
        ({"prompt": "a", "response": "b", "source": "web"}, "put values that no trial reads into `metadata`"),
        ({"prompt": "a", "response": "b", "metadata": "web"}, "`metadata` must be an object, but got 'web'"),
        ({"prompt": "a"}, "`response` must be a text, but got None"),
        ({"prompt": " ", "response": "b"}, "`prompt` must be a text, but it is empty"),
        ({"prompt": ["a"], "response": "b"}, "`prompt` must be a text, but got ['a']"),
        ({"prompt": "a", "response": " "}, "an answer must not be empty, but that of row `2` is"),
        ({"text": "  "}, "an answer must not be empty"),
        ({"text": "a", "images": ["lamp.png"]}, "`images` is not a key of a row with `text`"),
        ({"instruction": "a", "output": "b", "history": [["q"]]}, "`history[0]` must be [question, answer]"),
        ({"id": {}, "text": "a"}, "`id` must be a text or a whole number, but got {}"),
        ({"id": True, "text": "a"}, "`id` must be a text or a whole number, but got True"),
        ({"text": "cut \ud83d emoji"}, "turn 0: a text must be Unicode, but character 4 is half of a surrogate pair"),
        ({"prompt": "a<image>", "response": "b", "images": ["no.png"]}, "the image `no.png` must exist, but"),
        ({"prompt": "a<image>", "response": "b", "image": "a", "images": ["b"]}, "in `images`, `image`"),
        ('{"text": "a", "text": "b"}', "the key `text` occurs twice in one object"),
        ('{"prompt": "a", "response": "b", "metadata": {"x": 1, "x": 2}}', "the key `x` occurs twice"),
        ('{"text": "a", "metadata": {"score": NaN}}', "`NaN` is not a JSON number"),
        ('{"text": "a"', "a row must be one JSON object in UTF-8"),
        ("[" * 100_000, "a row must be one JSON object in UTF-8"),
        ('{"id": ' + "1" * 5000 + "}", "a row must be one JSON object in UTF-8"),
    ],
)  # fmt: skip
def test_a_broken_row_names_its_key(refused: Callable[..., str], row: Any, expected: str) -> None:
    assert expected in refused(row)


def turn(**changes: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi?", **changes}, ANSWER]}


def part(**keys: Any) -> dict[str, Any]:
    return turn(content=[keys])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (turn(role="bot"), "`messages[0]` must be {role: system | user | assistant | human | gpt | developer, content"),
        (turn(role="tool"), "`messages[0]`: the speaker `tool` makes this a row with tool calls"),
        (turn(content=None), "`messages[0]` must be {role:"),
        (turn(name="Ann"), "`messages[0]`: `name` is not a key of a turn"),
        (turn(weight=1), "`messages[0]`: `weight` must not be set for a turn of the user"),
        (turn(weight=0.5), "`messages[0]`: `weight` must be 0 or 1, false or true, but got 0.5"),
        ({"conversations": [{"from": "narrator", "value": "x"}]}, "`conversations[0]` must be {from: system"),
        ({"conversations": [{"from": "observation", "value": "x"}]}, "the speaker `observation` makes this a row with"),
        (part(type="video"), "`messages[0].content[0]`: `video` makes this a row with video or audio"),
        (part(type="tool_use", id="x"), "`messages[0].content[0]`: `tool_use` makes this a row with tool calls"),
        (part(type="imge"), "`messages[0].content[0]` must be a part of type text, image, image_url, but got"),
        (part(type="image", image="lamp.png", min_pixels=4), "`messages[0].content[0]`: `min_pixels` sets"),
        (part(type="image", image="lamp.png", max_pixels=4), "`max_pixels` sets the chat template or the picture"),
        (part(type="image", image="lamp.png", resized_height=28), "`resized_height` sets the chat template or the"),
        (part(type="image", image="lamp.png", alt="a lamp"), "`alt` is not a key of a part of type image"),
        (part(type="text", text="a", cache_control={"type": "ephemeral"}), "`cache_control` is not a key of a part"),
        (part(type="image_url", image_url={"url": "lamp.png", "detail": "low"}), "must name a file, but got {'url'"),
        (part(type="image", image={"path": None, "bytes": "iVBO"}), "a picture must be a file, but got its bytes"),
        (part(type="text"), "`messages[0].content[0]`: `text` must be a text, but got None"),
        (part(type="image_url"), "`messages[0].content[0]` must name one picture, but it names 0"),
        (part(type="image", image="a", path="b"), "must name one picture, but it names 2"),
        (part(type="image", image=3), "must name a file, but got 3"),
        (part(type="image_url", image_url={"url": "https://x.org/a.png"}), "must be a file, but got `https://x.org"),
        (part(type="image_url", image_url="data:image/png;base64,iVBO"), "a picture must be a file, but got data"),
        (part(type="image_url", image_url="data:image/png;base64,iVBO"), "save it as a file and give its path"),
        (part(type="image", image="s3://bucket/a.png"), "a picture must be a file, but got `s3://bucket/a.png`"),
        (part(type="image", image="lamp.png") | {"images": ["lamp.png"]}, "in `images` and in the turns"),
        (part(type="image"), "every image needs one `<image>`, but got 1 for 0 images"),
    ],
)  # fmt: skip
def test_a_broken_turn_names_its_place(refused: Callable[..., str], row: Any, expected: str) -> None:
    assert expected in refused(row)


@pytest.mark.parametrize("name", ["lamp.png", "./lamp.png", "{folder}/lamp.png", "file://{folder}/lamp.png"])
def test_a_picture_is_a_path(folder: Path, name: str) -> None:
    name = name.replace("{folder}", str(folder))
    row = part(type="image_url", image_url={"url": name})
    (folder / "rows.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert read_rows(folder / "rows.jsonl")[0].images == ((folder / "lamp.png").resolve(),)


def test_a_part_without_a_name_stands_for_the_next_of_images(folder: Path) -> None:
    """What transformers' own templates write."""
    row = part(type="image") | {"images": ["lamp.png"]}
    (folder / "rows.jsonl").write_text(json.dumps(row), encoding="utf-8")
    [read] = read_rows(folder / "rows.jsonl")
    assert (read.prompt[0].text, read.images) == ("<image>", ((folder / "lamp.png").resolve(),))


def test_an_answer_shows_no_picture(refused: Callable[..., str]) -> None:
    turns = [{"role": "user", "content": "Show."}, {"role": "assistant", "content": "<image>"}]
    assert "an answer must be text, but one holds `<image>`" in refused({"messages": turns, "images": ["lamp.png"]})


# -------------------------------------------------------------------- the file
SPOKEN = [{"role": "user", "content": "Second?"}, {"role": "assistant", "content": "two"}]


@pytest.mark.parametrize("rows", [1, 2])
def test_objects_may_be_printed_over_several_lines(tmp_path: Path, rows: int) -> None:
    text = json.dumps({"messages": SPOKEN}, indent=2)
    (tmp_path / "rows.json").write_text("\n".join([text] * rows), encoding="utf-8")
    read = read_rows(tmp_path / "rows.json")
    assert [row.messages for row in read] == [(Message("user", "Second?"), Message("assistant", "two"))] * rows
    assert [row.row_id for row in read] == ["1", str(text.count("\n") + 2)][:rows]


@pytest.mark.parametrize(
    "raw",
    [
        b'\xef\xbb\xbf{"text": "a"}\r\n\r\n\t{"text": "b"}\r\n',
        b'\xef\xbb\xbf[{"text": "a"},\r\n\r\n\t{"text": "b"}]\r\n',
    ],
)
def test_byte_order_marks_tabs_and_line_ends_do_not_matter(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(raw)
    assert [(row.row_id, row.answer) for row in read_rows(tmp_path / "rows.jsonl")] == [("1", "a"), ("3", "b")]


@pytest.mark.parametrize(
    ("raw", "line", "expected"),
    [
        (b"[", 1, "a row must be one JSON object"),
        (b"[]", None, "must hold at least one row, but it is empty"),
        (b"", None, "must hold at least one row, but it is empty"),
        (b'[\n{"text": "a"},\n\n3]', 4, "a row must be a JSON object, but got int"),
        (b'[\n{"text": "a"}\n{"text": "b"}]', 2, "a comma or `]` must follow it"),
        (b'[\n{"text": "a"},\n{"text": "b", "text": "c"}]', 3, "the key `text` occurs twice"),
        (b'[\n{"text": "a"}]\n\n{"text": "b"}', 4, "nothing may follow the array of rows"),
        (b'[\n{"text": "a"},\n{"text": "\xff"}]', 3, "can't decode byte 0xff"),
        (b'{"text": "a"}\n\xff\xfe', 2, "can't decode byte 0xff"),
        (b'{\n  "text": "a",\n  "text": "b"\n}', 1, "the key `text` occurs twice"),
        (b'{"text": \n{"text": "b"}', 1, "a row must be one JSON object in UTF-8"),
        ('{"text": "a"}'.encode("utf-16"), 1, "a row must be one JSON object in UTF-8"),
    ],
)
def test_a_broken_file_names_the_line(tmp_path: Path, raw: bytes, line: int | None, expected: str) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(raw)
    with pytest.raises(UserError) as caught:
        read_rows(path)
    assert caught.value.message.startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert expected in caught.value.message


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.jsonl.gz", "dataset_info.yaml"])
def test_files_of_other_kinds_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b'{"text": "a"}')
    with pytest.raises(UserError, match="a data file must hold JSON, but its name ends with"):
        read_rows(tmp_path / name)
    with pytest.raises(UserError, match="is a directory"):
        read_rows(tmp_path)


LONG = "\x1b[2J" + "x" * 5000


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "?"}, {"role": LONG, "content": "a"}]},
        {"messages": LONG},
        {"messages": [{"role": "user", "content": "?", LONG: 1}]},
        {"messages": [{"role": "user", "content": [{"type": LONG}]}]},
        {"prompt": "a", "response": [LONG]},
        {"prompt": "a", "response": "b", LONG: 1},
        {"prompt": "<image>a", "response": "b", "images": [f"http://{LONG}"]},
        {"prompt": "<image>a", "response": "b", "images": [f"http://a/{LONG}"]},
        {f"{LONG}{number}": 1 for number in range(100)},
    ],
)
def test_row_text_in_errors_is_shortened_and_without_control_codes(row: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        normalize_row(row, "rows.jsonl:1")
    assert "\\x1b[2J" in caught.value.message and "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 1500
