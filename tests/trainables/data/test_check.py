"""Tests the command that checks a data file: all problems at once, a table of 80 columns, exit codes 0 and 2."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ended import Ended, ended

from trainables.data.check import SHOWN_PROBLEMS, app
from trainables.mini import BASE_DIRECTORY

FILES = Path(__file__).parent / "files"


def ran(*words: object) -> Ended:
    return ended(app, *words)


def write(directory: Path, *rows: Any) -> Path:
    path = directory / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(output: str) -> dict[str, str]:
    lines = [re.split(r" {2,}", line.strip(), maxsplit=1) for line in output.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def test_the_contents_of_a_file_are_summarized() -> None:
    result = ran("check", FILES / "messages.jsonl")
    assert (result.exit_code, result.stderr) == (0, "")
    facts = table(result.stdout)
    assert facts["format"] == "messages 2"
    assert facts["roles"] == "user 3, assistant 3, system 1"
    assert facts["turns"] == "2 to 5; half at most 2, 95 % at most 5"
    assert facts["pictures"] == "1 of 1 files in 1 rows"
    assert facts["characters"] == "37 to 54; half at most 37, 95 % at most 54"
    assert facts["answers"] == "2 different; characters 4 to 8; half at most 4, 95 % at most 8"
    assert facts["contradictions"] == "0"
    assert "tokens" not in facts
    assert max(map(len, result.stdout.splitlines()[1:])) <= 80


def test_every_format_is_counted(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"prompt": "a", "response": "b"}, {"prompt": "a", "response": "c"}]
    facts = table(ran("check", write(tmp_path, *rows)).stdout)
    assert facts["format"] == "prompt 2, text 1"
    assert facts["contradictions"] == "2  2, 3"


def test_all_problems_are_listed_at_once_and_the_rest_counted(tmp_path: Path) -> None:
    sound = {"prompt": "a", "response": "b"}
    path = write(tmp_path, sound, *[sound | {"imges": []} for _ in range(SHOWN_PROBLEMS + 2)])
    result = ran("check", path)
    assert result.exit_code == 2
    assert f"{path}: {SHOWN_PROBLEMS + 3} rows, {SHOWN_PROBLEMS + 2} of them broken" in result.stdout
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert errors[0] == f"error: {path}:2: `imges` is not a key of a row with `prompt`"
    assert errors[SHOWN_PROBLEMS - 1].startswith(f"error: {path}:{SHOWN_PROBLEMS + 1}: ")
    assert errors[SHOWN_PROBLEMS:] == ["error: and 2 more"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "must hold at least one row, but it is empty"),
        ([{"id": 1, "text": "a"}, {"id": 1, "text": "b"}], "the id `1` must name one row, but line 1 has it too"),
        ([{"text": "a"}, 3], "a row must be a JSON object, but got int"),
    ],
)
def test_a_file_that_could_not_be_trained_on_exits_2(tmp_path: Path, rows: list[Any], expected: str) -> None:
    result = ran("check", write(tmp_path, *rows))
    assert result.exit_code == 2
    assert expected in result.stderr


def test_a_row_of_one_answer_exits_2(tmp_path: Path) -> None:
    path = write(tmp_path, {"messages": [{"role": "assistant", "content": "a"}]})
    result = ran("check", path)
    assert result.exit_code == 2
    assert f"error: {path}:1: a row must have a user turn" in result.stderr


# -------------------------------------------------------------------- what texts hold, and what is not read
DIALOGUE = {"prompt": "How does a turn end?", "response": "With <|im_end|> and then the next begins."}


def test_a_token_that_ends_turns_is_counted_without_a_base_and_refused_with_one(tmp_path: Path) -> None:
    path = write(tmp_path, DIALOGUE, {"prompt": "a", "response": "b"})
    result = ran("check", path)
    assert (result.exit_code, table(result.stdout)["turn marks"].split(";")[0]) == (0, "<|im_end|> 1")
    assert f"warning: {path}:1: a text holds `<|im_end|>`" in result.stderr
    result = ran("check", path, "--base", BASE_DIRECTORY)
    assert (result.exit_code, table(result.stdout)["turn marks"].split(";")[0]) == (2, "<|im_end|> 1")
    assert f"error: {path}:1: row `1`: a text must not hold tokens that structure the conversation" in result.stderr
    assert "warning" not in result.stderr


def test_a_rendered_text_may_hold_them(tmp_path: Path) -> None:
    result = ran("check", write(tmp_path, {"text": "<|im_start|>user\na<|im_end|>"}), "--base", BASE_DIRECTORY)
    assert (result.exit_code, "turn marks" in result.stdout) == (0, False)


def test_columns_that_an_entry_does_not_name_are_told(tmp_path: Path) -> None:
    row = {"instruction": "a", "input": "", "output": "b", "history": [["c", "d"]], "system": "e"}
    (tmp_path / "rows.json").write_text(json.dumps([row]), encoding="utf-8")
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "rows.json"}}', encoding="utf-8")
    result = ran("check", tmp_path / "dataset_info.json:mine")
    assert (result.exit_code, table(result.stdout)["turns"]) == (0, "2 each")
    assert table(result.stdout)["not read"].startswith("history 1, system 1")


# -------------------------------------------------------------------- pictures
def shows(picture: str) -> dict[str, Any]:
    return {"prompt": "<image>What?", "response": "a", "images": [picture]}


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Keep one picture, and four files of that name alone."""
    from PIL import Image

    Image.effect_noise((64, 64), 90).save(tmp_path / "sound.png")
    whole = (tmp_path / "sound.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not found", encoding="utf-8")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "page.svg").write_text("<svg/>", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("base", [(), ("--base", BASE_DIRECTORY)])
@pytest.mark.parametrize("picture", ["cut.png", "text.png", "empty.png", "page.svg"])
def test_a_file_that_is_not_a_picture_is_named_once_with_its_first_row(album: Path, picture: str, base: Any) -> None:
    path = write(album, shows("sound.png"), shows(picture), shows(picture))
    result = ran("check", path, *base)
    assert result.exit_code == 2
    [error] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: {path}:2: the image {(album / picture).resolve()} must be readable, but ")
    assert error.endswith("(1 more rows use it)")
    assert table(result.stdout)["pictures"] == "3 of 2 files in 3 rows; 1 cannot be read"


def test_a_row_with_a_broken_and_a_valid_picture_names_the_broken_one(album: Path) -> None:
    two = {"prompt": "<image><image>Which?", "response": "a", "images": ["sound.png", "empty.png"]}
    result = ran("check", write(album, two))
    assert (result.exit_code, result.stderr.count("must be readable")) == (2, 1)
    assert "empty.png" in result.stderr


# -------------------------------------------------------------------- the probes' file
PROBES = [
    {"kind": "irrelevant", "prompt": "What?", "images": ["sound.png"], "expect": "no", "forbid": ["lamp"]},
    {"kind": "caption", "prompt": "Say.", "images": ["sound.png"]},
    {"kind": "text", "prompt": "Hi?", "expect": "hello"},
]


@pytest.mark.parametrize("base", [(), ("--base", BASE_DIRECTORY)])
def test_an_out_of_distribution_file_is_read_as_the_probes_read_it(album: Path, base: Any) -> None:
    result = ran("check", write(album, *PROBES), *base)
    assert (result.exit_code, result.stderr) == (0, "")
    facts = table(result.stdout)
    assert facts["kinds"] == "irrelevant 1, caption 1, text 1"
    assert facts["pictures"] == "2 of 1 files in 2 rows"
    assert ("tokens" in facts) == bool(base)


def test_the_miniatures_own_ood_file_is_valid(tmp_path: Path) -> None:
    from trainables.mini import datasets

    files = datasets.write(tmp_path / "mini", seed=0)
    for file in (files.train, files.validation, files.ood):
        assert ran("check", file).exit_code == 0


@pytest.mark.parametrize(
    ("change", "base", "expected"),
    [
        ({0: {"forbid": "lamp"}}, (), ":1: `forbid` must be a list of terms, but got 'lamp'"),
        ({1: {"images": ["no.png"]}}, (), ":2: the image `no.png` must exist"),
        ({1: {"images": ["empty.png"]}}, (), "/empty.png must be readable"),
        ({2: {"kind": None}}, (), ":3: `kind` must be one of irrelevant, caption, text"),
        ({2: {"id": "2"}}, (), ":3: the id `2` must name one row"),
        ({2: {"kind": "caption", "images": ["sound.png"]}}, (), "there are none of kind text"),
        ({1: {"kind": "text", "expect": "a"}}, ("--base", BASE_DIRECTORY), "there are none of kind caption"),
        ({2: {"prompt": "<|image_pad|>"}}, ("--base", BASE_DIRECTORY), ":3: "),
    ],
)
def test_a_broken_row_of_an_out_of_distribution_file_is_named(
    album: Path, change: dict[int, Any], base: Any, expected: str
) -> None:
    path = write(album, *(row | change.get(index, {}) for index, row in enumerate(PROBES)))
    result = ran("check", path, *base)
    assert result.exit_code == 2
    assert result.stderr.count("error: ") == 1
    assert expected in result.stderr


def test_a_stray_kind_in_a_training_file_is_still_an_unknown_key(tmp_path: Path) -> None:
    row = {"prompt": "a", "response": "b"}
    path = write(tmp_path, row, row, row | {"kind": "text"})
    result = ran("check", path)
    assert (result.exit_code, result.stderr.count("error: ")) == (2, 1)
    assert f"{path}:3: `kind` is not a key of a row with `prompt`" in result.stderr


def test_a_base_counts_tokens_and_names_the_rows_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": "few", "prompt": "one", "response": "two"},
                 {"id": "many", "prompt": "one " * 20, "response": "two"},
                 {"id": "odd", "prompt": "<|image_pad|>", "response": "two"})  # fmt: skip
    result = ran("check", path, "--base", BASE_DIRECTORY, "--max-tokens", 25)
    assert result.exit_code == 2
    assert re.search(rf"{path}:2: row `many` must fit 25 tokens, but it has \d\d", result.stderr)
    assert f"{path}:3: row `odd`: a text must not hold tokens that structure the conversation, but turn 0 (user)" in (
        result.stderr
    )
    assert result.stderr.count("error: ") == 2
    assert re.fullmatch(r"\d\d? to \d\d; half at most .*", table(result.stdout)["tokens"])
    assert "--max-tokens needs --base" in ran("check", path, "--max-tokens", 25).stderr


def test_filter_writes_what_is_left(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": "a"}, {"text": "a"}, {"text": "b"})
    result = ran("filter", path, "--drop", "duplicates", "--out", tmp_path / "left.jsonl")
    assert (result.exit_code, result.stdout) == (0, "dropped 1 of 3 training rows: duplicates 1\n")
    assert len((tmp_path / "left.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    again = ran("filter", path, "--drop", "duplicate", "--out", tmp_path / "other.jsonl")
    assert (again.exit_code, again.stderr.splitlines()[0]) == (2, "error: --drop: `duplicate` must be a filter")
    assert not (tmp_path / "other.jsonl").exists()


def test_the_module_is_the_command_and_needs_no_torch() -> None:
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['data', 'check', {str(FILES / 'sharegpt.json')!r}]\n"
        "try:\n    runpy.run_module('trainables.data', run_name='__main__')\n"
        "except SystemExit as end:\n    print('exit', end.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "conversations 2" in done.stdout
    assert done.stdout.splitlines()[-1] == "exit 0 False"
