"""The command that checks a data file: all problems at once, a table of 80 columns, exit codes 0 and 2."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from trainables.data_check import SHOWN_PROBLEMS, app
from trainables.mini import BASE_DIRECTORY

FILES = Path(__file__).parent / "data"


def ran(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def write(directory: Path, *rows: Any) -> Path:
    path = directory / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(output: str) -> dict[str, str]:
    lines = [re.split(r" {2,}", line.strip(), maxsplit=1) for line in output.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def test_what_a_file_holds() -> None:
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
    ("rows", "says"),
    [
        ([], "must hold at least one row, but it is empty"),
        ([{"id": 1, "text": "a"}, {"id": 1, "text": "b"}], "the id `1` must name one row, but line 1 has it too"),
        ([{"text": "a"}, 3], "a row must be a JSON object, but got int"),
    ],
)
def test_a_file_that_could_not_be_trained_on_exits_2(tmp_path: Path, rows: list[Any], says: str) -> None:
    result = ran("check", write(tmp_path, *rows))
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_base_counts_tokens_and_names_the_rows_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": "few", "prompt": "one", "response": "two"},
                 {"id": "many", "prompt": "one " * 20, "response": "two"},
                 {"id": "odd", "prompt": "<|image_pad|>", "response": "two"})  # fmt: skip
    result = ran("check", path, "--base", BASE_DIRECTORY, "--max-tokens", 25)
    assert result.exit_code == 2
    assert re.search(rf"{path}:2: row `many` must fit 25 tokens, but it has \d\d", result.stderr)
    assert f"{path}:3: row `odd`: every image must have one image token, but got 1" in result.stderr
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
