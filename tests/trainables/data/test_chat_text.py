"""Tests the parser of rendered chat texts against the templates that rendered them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trainables.data.chat_text import turns_of
from trainables.data.formats import Message
from trainables.data.rows import read_validation
from trainables.errors import UserError

if TYPE_CHECKING:
    from trainables.engine import Engine


TURNS = (Message("user", "list all files\nhidden ones too"), Message("assistant", "ls -la"))
SYSTEM = Message("system", "Answer with a command.")


def test_what_the_bases_own_template_rendered_is_read_back(engine: Engine) -> None:
    turns = (SYSTEM, *TURNS, Message("user", "and here?"), Message("assistant", "ls -la ."))
    spoken = [{"role": one.role, "content": one.text} for one in turns]
    assert turns_of(engine.encoder.tokenizer.apply_chat_template(spoken, tokenize=False)) == turns


@pytest.mark.parametrize(
    "text",
    [
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nlist all files\nhidden ones too<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nls -la<|eot_id|>",
        "<bos><start_of_turn>user\nlist all files\nhidden ones too<end_of_turn>\n"
        "<start_of_turn>model\nls -la<end_of_turn>\n",
        "<s>[INST] list all files\nhidden ones too [/INST] ls -la</s>",
        "Below is an instruction that describes a task.\n\n### Instruction:\nlist all files\n\n"
        "### Input:\nhidden ones too\n\n### Response:\nls -la",
    ],
)
def test_llama_gemma_mistral_and_alpaca(text: str) -> None:
    assert turns_of(text) == TURNS


@pytest.mark.parametrize(
    "text",
    [
        "ls -la",
        "<|im_start|>user\nlist<|im_end|>\n",  # nobody answered
        "<|im_start|>user\nlist<|im_end|>\n<|im_start|>assistant\n<|im_end|>",  # nothing was said
        "<|im_start|>assistant\nls<|im_end|>",  # nobody asked
        "<|im_start|>user\nlist<|im_end|>\n<|im_start|>tool\nls<|im_end|>",
        "before <|im_start|>user\nlist<|im_end|>\n<|im_start|>assistant\nls<|im_end|>",
        "### Instruction:\nlist\n### Response:\n",
    ],
)
def test_what_cannot_be_scored_stays_a_text(text: str) -> None:
    assert turns_of(text) is None


def test_a_validation_file_of_rendered_texts_is_evaluated(tmp_path: Path) -> None:
    path = tmp_path / "val.jsonl"
    rendered = "<|im_start|>user\nlist<|im_end|>\n<|im_start|>assistant\nls<|im_end|>\n"
    path.write_text(json.dumps({"text": rendered}) + "\n")
    [row] = read_validation(path)
    assert (row.prompt, row.answer) == ((Message("user", "list"),), "ls")
    path.write_text(json.dumps({"text": rendered}) + "\n" + json.dumps({"text": "list files"}) + "\n")
    with pytest.raises(UserError, match="1 of 2 are `text` that no known template rendered"):
        read_validation(path)
