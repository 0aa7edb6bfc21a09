"""Tests that a question and its answer are found in rendered text, without false positives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainables.data.duplicates import check_disjoint, found_in_texts
from trainables.data.rows import read_rows
from trainables.errors import UserError

RENDERED = {
    "chatml": "<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n{a}<|im_end|>\n",
    "llama 3": "<|start_header_id|>user<|end_header_id|>\n\n{q}<|eot_id|><|start_header_id|>assistant"
               "<|end_header_id|>\n\n{a}<|eot_id|>",
    "mistral": "<s>[INST] {q} [/INST] {a}</s>",
    "gemma": "<start_of_turn>user\n{q}<end_of_turn>\n<start_of_turn>model\n{a}<end_of_turn>\n",
    "alpaca": "### Instruction:\n{q}\n\n### Response:\n{a}",
    "qwen 3": "<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n{a}<|im_end|>\n",
}  # fmt: skip


def files(folder: Path, texts: list[str]) -> tuple[Path, Path]:
    train, validation = folder / "train.jsonl", folder / "validation.jsonl"
    train.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    rows = [{"id": "free", "prompt": "Show the date", "response": "date"},
            {"id": "known", "prompt": "List all\nfiles", "response": "ls -a"}]  # fmt: skip
    validation.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return train, validation


@pytest.mark.parametrize("template", RENDERED.values(), ids=RENDERED)
def test_a_rendered_conversation_is_the_conversation(tmp_path: Path, template: str) -> None:
    train, validation = files(tmp_path, ["else", template.format(q="list  all files", a="LS -a"), "other"])
    with pytest.raises(UserError, match="must not be in train, but 1 of them are, the first is `known`"):
        check_disjoint(read_rows(train), read_rows(validation), validation)


@pytest.mark.parametrize(
    "text",
    [
        RENDERED["chatml"].format(q="List all files", a="ls -al"),
        RENDERED["chatml"].format(q="List all files of a", a="ls -a"),
        RENDERED["chatml"].format(q="Blist all files", a="ls -a"),
        "list all filesls -a",
        "List all files with ls -a",
    ],
)
def test_another_question_or_answer_is_not_a_duplicate(tmp_path: Path, text: str) -> None:
    train, validation = files(tmp_path, [text, "list all files", "ls -a"])
    check_disjoint(read_rows(train), read_rows(validation), validation)


def test_every_occurrence_is_checked() -> None:
    assert found_in_texts(["a? b", "x a? c", "a? d"], [("a?", "c"), ("a?", "e"), ("a?", "d")]) == [True, False, True]
    assert found_in_texts([], [("a", "b")]) == [False]
