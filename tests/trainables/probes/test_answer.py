"""Tests that the base's own answers are written as `expect`: those that transformers' greedy decoding gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainables.errors import UserError
from trainables.evaluation.decoding import Decoded
from trainables.mini.text import BASE_DIRECTORY
from trainables.probes.answer import ask, open_rows, with_answers
from trainables.probes.question import ask_ood

QUESTIONS = [
    {"id": "a", "kind": "text", "prompt": "What colour is the sky?"},
    {"id": "b", "kind": "text", "prompt": "Count the files in docs.", "expect": "old."},
    {"id": "c", "kind": "text", "prompt": "2 + 2?", "accept": ["4"]},
    {"id": "d", "kind": "declines", "prompt": "Erase the disk."},
]


def file(directory: Path, *rows: dict[str, object]) -> Path:
    path = directory / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_only_text_rows_without_an_answer_are_asked_or_all_that_have_one_of_their_own(tmp_path: Path) -> None:
    path = file(tmp_path, *QUESTIONS)
    assert [one.question.row_id for one in open_rows(path, replace=False) if one.question] == ["a"]
    assert [one.question.row_id for one in open_rows(path, replace=True) if one.question] == ["a", "b"]
    with pytest.raises(UserError, match="must lack `expect`") as caught:
        open_rows(file(tmp_path, *QUESTIONS[1:]), replace=False)
    assert "--replace" in (caught.value.hint or "")
    with pytest.raises(UserError, match=r"q\.jsonl:1: `prompt` must be a text"):
        open_rows(file(tmp_path, {"kind": "text"}), replace=False)


def test_a_cut_or_empty_answer_leaves_its_row_out_and_all_else_is_copied(tmp_path: Path) -> None:
    rows = open_rows(file(tmp_path, *QUESTIONS), replace=True)
    answers = {"ood/a": Decoded("Blue.", True), "ood/b": Decoded("ls docs and", False)}
    found = with_answers(rows, answers)
    assert [dict(one) for one in found.rows] == [{**QUESTIONS[0], "expect": "Blue."}, *QUESTIONS[2:]]
    assert (found.answered, found.cut, found.empty) == (1, ("b",), ())
    assert with_answers(rows, {**answers, "ood/b": Decoded(" ", True)}).empty == ("b",)


def test_pictures_are_named_whole_where_the_new_file_lies_elsewhere(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (32, 32)).save(tmp_path / "p.png")
    picture = {"kind": "caption", "prompt": "What is it?", "images": ["p.png"]}
    rows = open_rows(file(tmp_path, QUESTIONS[0], picture), replace=False)
    (_, moved) = with_answers(rows, {"ood/a": Decoded("Blue.", True)}, tmp_path).rows
    assert moved["images"] == [str(tmp_path / "p.png")]


def test_the_answers_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked = [one.question for one in open_rows(file(tmp_path, *QUESTIONS), replace=True) if one.question]
    answers = ask(BASE_DIRECTORY, asked, "none", "float32", 16)
    tokenizer, model = (kind.from_pretrained(BASE_DIRECTORY) for kind in (AutoTokenizer, AutoModelForCausalLM))
    for row in asked:
        turns = [{"role": one.role, "content": one.text} for one in row.messages]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        tokens = model.generate(**prompt, max_new_tokens=16, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        assert answers[ask_ood(row).key].text == tokenizer.decode(tokens, skip_special_tokens=True).strip()
        assert answers[ask_ood(row).key].ended
