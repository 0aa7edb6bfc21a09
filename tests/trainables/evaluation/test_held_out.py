"""Tests held-out validation without a model: row selection, quantization, checks of answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainables.checkpoints.base_lookup import base_directory
from trainables.data.rows import Message, Row
from trainables.errors import UserError
from trainables.evaluation.answers import judged, rates
from trainables.evaluation.held_out import chosen_quantization, sampled_rows
from trainables.validate import printable


def row(answer: str, prompt: str = "list the files") -> Row:
    return Row("1", (Message("user", prompt), Message("assistant", answer)), ())


def test_the_draw_depends_on_the_seed_alone_and_keeps_the_files_order(files: Any) -> None:
    def ids(size: int, seed: int) -> list[str]:
        return [one.row_id for one in sampled_rows(files.validation, size, seed).rows]

    whole = ids(0, 0)
    assert ids(5, 1) == ids(5, 1) != ids(5, 2)
    assert ids(5, 1) == sorted(ids(5, 1), key=whole.index)
    assert ids(len(whole), 3) == ids(len(whole) + 1, 3) == whole


@pytest.mark.parametrize(
    ("trained", "asked", "chosen"),
    [
        (None, None, "nf4-double"), ("none", None, "none"), ("int8", None, "int8"), ("fp4", True, "fp4"),
        ("none", True, "nf4-double"), ("nf4", False, "none"), (None, False, "none"),
    ],
)  # fmt: skip
def test_the_base_is_quantized_as_it_was_trained_unless_asked(trained: Any, asked: bool | None, chosen: str) -> None:
    assert chosen_quantization(trained, asked) == chosen


@pytest.mark.parametrize(
    ("trained", "asked", "stored", "chosen"),
    [
        (None, None, "nf4", "nf4"), (None, None, "int8", "int8"), (None, True, "fp4", "fp4"),
        (None, False, "fp4", "none"),
        ("int8", None, "fp4", "int8"), ("nf4", True, "fp4", "nf4"), (None, True, "int8", "nf4-double"),
    ],
)  # fmt: skip
def test_a_base_that_is_stored_quantized_is_used_as_it_is_unless_asked(
    trained: Any, asked: bool | None, stored: Any, chosen: str
) -> None:
    assert chosen_quantization(trained, asked, stored) == chosen


@pytest.mark.parametrize(
    ("message", "expected", "found"),
    [
        ("ls -la", "ls -la", {"exact_match", "command_only"}),
        ("rm -rf /", "ls", {"dangerous", "command_only"}),
        ("Run `sudo rm -rf /` to free space.", "df -h", {"dangerous"}),
        ("", "ls", {"near_empty"}),
        ("w", "w", {"exact_match", "command_only"}),  # as short as its reference
        ("无关图片", "无关图片", {"exact_match"}),
        ("lamp lamp lamp lamp lamp lamp", "lamp red", {"degenerate"}),
    ],
)
def test_every_answer_is_checked(message: str, expected: str, found: set[str]) -> None:
    answer = judged(row(expected), message, True, 0.1)
    names = ("exact_match", "dangerous", "command_only", "near_empty", "degenerate")
    seen = {name for name in names if getattr(answer, name)}
    assert seen - {"command_only"} == found - {"command_only"}
    assert ("command_only" in found) <= answer.command_only


def test_rates_count_commands_only_where_commands_are_expected() -> None:
    answers = [judged(row("ls -la"), output, True, 1.0) for output in ("ls -la", "Sure, use ls -la.", "", "rm -rf /")]
    counted = rates(answers)
    assert counted["exact_match"] == counted["near_empty_rate"] == counted["dangerous_rate"] == 0.25
    assert counted["command_only_rate"] == 0.5
    assert "command_only_rate" not in rates([judged(row("It is a green lamp."), "ls", True, 1.0)])


def test_chinese_is_written_unescaped_and_terminal_control_codes_are_removed() -> None:
    assert "无关图片" in judged(row("无关图片"), "无关图片", True, 0.1).line
    assert printable("无关\x1b[2J\n图片") == "无关\\x1b[2J\\n图片"


def test_a_base_is_a_directory_or_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert base_directory(str(tmp_path)) == tmp_path.resolve()
    with pytest.raises(UserError, match="somebody/never-downloaded is neither"):
        base_directory("somebody/never-downloaded")
