"""Tests how a project's rows are made: the split, the questions, and what the base is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweeps.project import base_answers
from sweeps.project.kept_questions import GENERAL, questions_in
from sweeps.project.split_rows import split
from sweeps.project.study_of_base import depths, sensible_epochs
from trainables.data.accepted import holds_term
from trainables.data.formats import Message
from trainables.data.rows import Row
from trainables.errors import UserError
from trainables.evaluation.decoding import Decoded
from trainables.probes.question import ask_ood


def row(number: int, question: str) -> Row:
    return Row(f"r{number}", (Message("user", question), Message("assistant", f"answer {number}")), ())


def test_no_question_is_on_both_sides_of_a_split() -> None:
    rows = [row(number, f"Question {number // 3}?" if number % 2 else f"QUESTION  {number // 3}?")
            for number in range(300)]  # fmt: skip
    train, validation = split(rows, Path("rows.jsonl"))
    sides = [{one.prompt[0].text.casefold().replace("  ", " ") for one in side} for side in (train, validation)]
    assert not sides[0] & sides[1]
    assert len(validation) == 30 and len(train) + len(validation) == 300
    assert split(rows[::-1], Path("rows.jsonl"))[1] == validation[::-1]


def test_a_split_needs_twenty_rows_of_two_questions_and_takes_two_hundred_at_most() -> None:
    rows = [row(number, f"Question {number}?") for number in range(5000)]
    assert len(split(rows[:20], Path("rows.jsonl"))[1]) == 2
    assert len(split(rows, Path("rows.jsonl"))[1]) == 200
    with pytest.raises(UserError, match="20 rows"):
        split(rows[:19], Path("rows.jsonl"))
    with pytest.raises(UserError, match="different questions"):
        split([row(number, "The same?") for number in range(20)], Path("rows.jsonl"))


@pytest.mark.parametrize(
    ("layers", "expected"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 3, 6)), (30, (2, 7, 15, 30)), (32, (2, 8, 16, 32))]
)
def test_arms_fit_the_depth_of_a_base(layers: int, expected: tuple[int, ...]) -> None:
    assert depths(layers) == expected


@pytest.mark.parametrize(("rows", "expected"), [(20, 10), (400, 2), (799, 2), (800, 1), (100_000, 1)])
def test_passes_make_fifty_steps(rows: int, expected: int) -> None:
    assert sensible_epochs(rows) == expected


def test_no_built_in_question_holds_its_answer() -> None:
    rows = questions_in(GENERAL)
    assert len(rows) == len({one["prompt"] for one in rows}) == 125
    assert not [one for one in rows if not one["accept"] or holds_term(one["prompt"], one["accept"])]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "What is it?\n\nWhat is it?\nWho?\tMe | I\n", [{"prompt": "What is it?"},
                                                               {"prompt": "Who?", "accept": ["Me", "I"]}]),
        ("a.jsonl", '{"question": "Who?", "answer": "Me"}\n', [{"prompt": "Who?", "accept": ["Me"]}]),
        ("a.jsonl", '{"prompt": "Who?", "expect": "Me."}\n', [{"prompt": "Who?", "expect": "Me."}]),
        ("a.json", '[{"messages": [{"role": "system", "content": "Short."}, {"role": "user", "content": "Who?"}, '
                   '{"role": "assistant", "content": "Me, of course."}]}]', [{"system": "Short.", "prompt": "Who?"}]),
    ],
)  # fmt: skip
def test_questions_are_read_in_each_form(name: str, text: str, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    found = questions_in(tmp_path / name)
    assert [{key: value for key, value in one.items() if key not in ("id", "kind")} for one in found] == expected


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("a.txt", b"Who?\tMe\tYou\n", "a.txt:1"),
        ("a.txt", b"\tMe\n", "a.txt:1"),
        ("a.txt", b"\xff\xfe", "UTF-8"),
        ("a.txt", b"\n", "empty"),
        ("a.csv", b"Who,Me\n", ".csv"),
        ("a.jsonl", b'{"prompt": "Who?", "anwser": "Me"}\n', "anwser"),
        ("a.jsonl", b'{"prompt": 3}\n', "a.jsonl:1"),
        ("a.jsonl", b'{"prompt": "Who?", "images": ["a.png"]}\n', "text alone"),
        ("a.jsonl", b'{"nothing": 1}\n', "a.jsonl:1"),
    ],
)
def test_a_wrong_file_of_questions_is_refused_by_line(name: str, text: bytes, named: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(UserError) as refused:
        questions_in(tmp_path / name)
    assert named in str(refused.value) and refused.value.hint


def test_what_the_base_gets_wrong_is_left_out_and_open_questions_get_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"Two?": "It is 2.", "Three?": "It is 4.", "Open?": "An apple.", "Endless?": "and and"}

    def ask(_: Path, rows: list[Any], *__: object) -> dict[str, Decoded]:
        return {ask_ood(one).key: Decoded(said[(text := one.messages[-1].text)], text != "Endless?")
                for one in rows}  # fmt: skip

    monkeypatch.setattr(base_answers, "ask", ask)
    rows = [
        {"id": "a", "kind": "text", "prompt": "Two?", "accept": ["2"]},
        {"id": "b", "kind": "text", "prompt": "Three?", "accept": ["3"]},
        {"id": "c", "kind": "text", "prompt": "Open?"},
        {"id": "d", "kind": "text", "prompt": "Endless?"},
    ]
    found = base_answers.with_base_answers(rows, tmp_path / "ood.jsonl", tmp_path, "none")
    assert json.loads(json.dumps(found.rows)) == [rows[0], {**rows[2], "expect": "An apple."}]
    assert (found.answered, found.wrong, found.cut) == (1, 1, 1)
    with pytest.raises(UserError, match="must answer some"):
        base_answers.with_base_answers([rows[1], rows[3]], tmp_path / "ood.jsonl", tmp_path, "none")
