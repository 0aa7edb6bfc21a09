from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_trials import Sources

from trainables.data.duplicates import check_disjoint, digest_of
from trainables.data.ood import read_ood
from trainables.data.rows import read_rows, read_validation
from trainables.errors import UserError

QUESTION = {"role": "user", "content": "<image>What is it?"}
ANSWER = {"role": "assistant", "content": "a lamp"}
ROW = {"id": "one", "messages": [QUESTION, ANSWER], "images": ["lamp.png"]}
OOD_ROW = {"kind": "irrelevant", "prompt": "What?", "images": ["lamp.png"], "expect": "无关图片", "forbid": ["lamp"]}
OOD_ROWS = [
    OOD_ROW,
    {"kind": "caption", "prompt": "Say.", "images": ["lamp.png"]},
    {"kind": "text", "prompt": "Hi?", "expect": "hello"},
]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "lamp.png")
    return tmp_path


def write(album: Path, *rows: dict[str, Any] | str | bytes, name: str = "rows.jsonl") -> Path:
    lines = [row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode()
             for row in rows]  # fmt: skip
    path = album / name
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def refusal(read: Any, path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        read(path)
    return caught.value


def test_rows_are_read_with_images_relative_to_the_file(album: Path) -> None:
    first, second = read_rows(write(album, ROW, "", {"messages": [{"role": "user", "content": "Hi"}, ANSWER]}))
    assert first.images == ((album / "lamp.png").resolve(),)
    assert (first.row_id, first.answer, first.prompt[0].text) == ("one", "a lamp", "<image>What is it?")
    assert (second.row_id, second.images) == ("3", ())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ROW | {"images": ["no.png"]}, "the image `no.png` must exist, but {album}/no.png does not"),
        (ROW | {"images": []}, "every image needs one `<image>`, but got 1 for 0 images"),
        (ROW | {"images": ["lamp.png"] * 2}, "every image needs one `<image>`, but got 1 for 2 images"),
        (ROW | {"images": 5}, "`images` must be a list of paths, but got 5"),
        (ROW | {"messages": [QUESTION, ANSWER | {"content": "  "}]}, "an answer must not be empty"),
        (ROW | {"messages": [QUESTION]}, "a row must have an assistant turn, but its roles are ['user']"),
        (ROW | {"messages": [QUESTION, ANSWER, QUESTION | {"content": "?"}]}, "last turn must be the assistant's"),
        (ROW | {"messages": [ANSWER]}, "a row must have a user turn"),
        (
            {"conversations": [{"from": "system", "value": "Be brief."}, {"from": "gpt", "value": "a"}]},
            "a row must have a user turn, but its roles are ['system', 'assistant']",
        ),
        (ROW | {"messages": []}, "`messages` must be a list of turns, but got []"),
        (ROW | {"messages": [{"role": "bot", "content": "x"}]}, "`messages[0]` must be {role: system | user"),
        (ROW | {"messages": [{"role": "user", "content": 3}]}, "`messages[0]` must be"),
        (ROW | {"mesages": []}, "`mesages` is not a key of a row"),
        ('{"id": ', "a row must be one JSON object in UTF-8"),
        ("[1, 2]", "a row must be a JSON object, but got list"),
        (b'{"id": "\xff"}', "a row must be one JSON object in UTF-8"),
    ],
)
def test_a_broken_row_names_its_file_and_line(album: Path, row: Any, expected: str) -> None:
    path = write(album, ROW | {"id": "first"}, row)
    error = refusal(read_rows, path)
    assert error.message.startswith(f"{path}:2: ")
    assert expected.replace("{album}", str(album.resolve())) in error.message


def test_an_unknown_key_names_the_nearest(album: Path) -> None:
    hint = refusal(read_rows, write(album, ROW | {"mesages": []})).hint
    assert hint == "put values that no trial reads into `metadata`; did you mean `messages`?"
    assert refusal(read_ood, write(album, OOD_ROW | {"forbidden": []})).hint == "did you mean `forbid`?"


@pytest.mark.parametrize("read", [read_rows, read_ood])
def test_a_missing_file_and_an_empty_one(album: Path, read: Any) -> None:
    assert "a data file must exist, but" in refusal(read, album / "no.jsonl").message
    assert refusal(read, write(album, "", "  ")).exit_code == 2
    assert "must hold at least one row" in refusal(read_rows, write(album, "", "  ")).message


def test_two_rows_of_one_id_are_refused(album: Path) -> None:
    """The second row would never be evaluated, because answers are stored by id."""
    path = write(album, ROW, ROW | {"messages": [QUESTION | {"content": "<image>?"}, ANSWER]})
    assert f"{path}:2: the id `one` must name one row" in refusal(read_rows, path).message
    path = write(album, *OOD_ROWS, OOD_ROWS[2] | {"id": "2"})
    assert f"{path}:4: the id `2` must name one row" in refusal(read_ood, path).message


def test_out_of_distribution_rows_are_read(album: Path) -> None:
    rows = read_ood(write(album, *OOD_ROWS, OOD_ROW | {"system": "Inspect.", "prompt": "See <image>."}))
    assert rows[0].messages[0].text == "<image>What?"
    assert rows[0].forbid == ("lamp",)
    assert (rows[1].expect, rows[2].images) == (None, ())
    assert [message.text for message in rows[3].messages] == ["Inspect.", "See <image>."]


@pytest.mark.parametrize("kind", ["irrelevant", "caption", "text"])
def test_every_kind_of_probe_needs_rows(album: Path, kind: str) -> None:
    error = refusal(read_ood, write(album, *(row for row in OOD_ROWS if row["kind"] != kind)))
    assert error.message.endswith(f"none of kind {kind}")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (OOD_ROW | {"kind": "irelevant"}, "`kind` must be one of irrelevant, caption, text, declines, but got 'irel"),
        (OOD_ROW | {"prompt": " "}, "`prompt` must be a text, but got ' '"),
        (OOD_ROW | {"expect": ""}, "`expect` must be the answer a general model gives, but got ''"),
        (OOD_ROWS[1] | {"expect": 5}, "`expect` must be the answer a general model gives, but got 5"),
        (OOD_ROW | {"forbid": "lamp"}, "`forbid` must be a list of terms, but got 'lamp'"),
        (OOD_ROW | {"forbid": [""]}, "`forbid` must be a list of terms, but got ['']"),
        (OOD_ROW | {"forbid": ["。"]}, "`forbid` must be a list of terms"),
        (OOD_ROW | {"forbid": [3]}, "`forbid` must be a list of terms, but got [3]"),
        (OOD_ROW | {"images": 5}, "`images` must be a list of paths, but got 5"),
        (OOD_ROW | {"images": []}, "a picture must be shown, but `images` is empty"),
        (OOD_ROWS[1] | {"images": []}, "a picture must be shown, but `images` is empty"),
    ],
)
def test_a_broken_out_of_distribution_row_names_its_file_and_line(album: Path, row: Any, expected: str) -> None:
    path = write(album, OOD_ROWS[2], row)
    error = refusal(read_ood, path)
    assert f"{path}:2: {expected}" in error.message


@pytest.mark.parametrize(
    ("read", "row"),
    [
        (read_ood, OOD_ROW | {"forbid": "\x1b[2J" + "x" * 5000}),
        (read_ood, OOD_ROW | {"\x1b[2J" + "x" * 5000: 1}),
        (read_ood, OOD_ROW | {"kind": {"\x1b[2J": "x" * 5000}}),
        (read_rows, ROW | {"id": "\x1b[2J" + "x" * 5000, "messages": [QUESTION, ANSWER | {"content": " "}]}),
    ],
)
def test_row_text_in_errors_is_shortened_and_without_control_codes(album: Path, read: Any, row: Any) -> None:
    path = write(album, row)
    message = refusal(read, path).message
    assert "\\x1b[2J" in message and "\x1b" not in message
    assert len(message) < len(str(path)) + 200


def test_a_rendered_text_without_a_question_is_not_a_validation_row(album: Path) -> None:
    text = "".join(f"<|im_start|>assistant\n{output}<|im_end|>\n" for output in ("a", "b"))
    assert "a validation row must have a question" in refusal(read_validation, write(album, {"text": text})).message


def test_validation_rows_that_are_in_train_are_refused_whatever_their_file_names(album: Path) -> None:
    shutil.copy(album / "lamp.png", album / "copy.png")
    Image.new("RGB", (16, 16), "blue").save(album / "other.png")
    shouted = [QUESTION | {"content": "<image>WHAT  is it?"}, ANSWER]
    train = read_rows(write(album, ROW, name="train.jsonl"))
    path = write(
        album,
        ROW | {"id": "same text, another picture", "images": ["other.png"]},
        ROW | {"id": "same picture, another text", "messages": [QUESTION, {"role": "assistant", "content": "a cat"}]},
        ROW | {"id": "twin", "images": ["copy.png"], "messages": shouted},
    )
    validation = read_rows(path)
    check_disjoint(train, validation[:2], path)
    with pytest.raises(UserError, match="must not be in train, but 1 of them are, the first is `twin`"):
        check_disjoint(train, validation, path)


def test_the_digest_of_a_file_covers_its_pictures(album: Path) -> None:
    path = write(album, ROW)
    before = digest_of(path, [album / "lamp.png"])
    Image.new("RGB", (16, 16), "blue").save(album / "lamp.png")
    assert digest_of(path, [album / "lamp.png"]) != before


def test_the_miniatures_own_rows_are_valid(sources: Sources) -> None:
    train, validation = read_rows(sources.train.path), read_rows(sources.validation.path)
    check_disjoint(train, validation, sources.validation.path)
    assert {row.kind for row in read_ood(sources.ood.path)} == {"irrelevant", "caption", "text"}
