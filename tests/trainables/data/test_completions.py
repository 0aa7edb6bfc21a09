"""Tests completions: a text is tokenized unchanged, every token is supervised, and the end of sequence is added."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trainables.data.formats import COMPLETION, Message
from trainables.data.rows import Row, read_rows
from trainables.errors import UserError

if TYPE_CHECKING:
    from trainables.engine import Engine


FILES = Path(__file__).parent / "files"
RENDERED = "<|im_start|>user\nwhat is it?<|im_end|>\n<|im_start|>assistant\na lamp<|im_end|>"


def completion(text: str) -> Row:
    return Row("one", (Message(COMPLETION, text),), ())


def test_every_token_of_a_text_is_supervised_and_the_end_is_added(engine: Engine) -> None:
    encoded = engine.encoder.conversation(completion("a lamp"))
    tokenizer = engine.encoder.tokenizer
    assert encoded.tokens == [*tokenizer("a lamp")["input_ids"], tokenizer.eos_token_id]
    assert (encoded.labels, encoded.views) == (encoded.tokens, ())


@pytest.mark.parametrize("end", ["", "\n", " \n\n"])
def test_a_text_that_ends_already_gets_no_second_end(engine: Engine, end: str) -> None:
    encoded = engine.encoder.conversation(completion(RENDERED + end))
    assert engine.encoder.tokenizer.decode(encoded.tokens) == RENDERED + end
    assert encoded.tokens.count(engine.encoder.tokenizer.eos_token_id) == 2


def test_a_rendered_conversation_has_the_tokens_of_the_conversation(engine: Engine) -> None:
    """What another tool rendered with the base's own template is the same text to the model; only labels differ."""
    turns = (Message("user", "what is it?"), Message("assistant", "a lamp"))
    tokenizer = engine.encoder.tokenizer
    rendered = tokenizer.apply_chat_template(
        [{"role": one.role, "content": one.text} for one in turns], tokenize=False, add_generation_prompt=False
    )
    asked = engine.encoder.conversation(Row("one", turns, ()))
    output = engine.encoder.conversation(completion(rendered))
    assert output.tokens == asked.tokens
    assert output.labels != asked.labels


def test_an_image_token_in_a_text_is_refused(engine: Engine) -> None:
    with pytest.raises(UserError, match="row `one`: every image must have one image token"):
        engine.encoder.conversation(completion(f"a {engine.encoder.image_token} b"))


def test_a_sequence_begins_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base that begins every sequence with a token of its own, as Llama does: it is added where the text has none."""
    from tokenizers.processors import TemplateProcessing

    begin, copy = "<|im_start|>", deepcopy(engine.encoder.tokenizer)
    copy.bos_token = begin
    copy.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, copy.convert_tokens_to_ids(begin))]
    )
    monkeypatch.setattr(engine.encoder, "tokenizer", copy)
    for text in ("a lamp", f"{begin}a lamp"):
        encoded = engine.encoder.conversation(completion(text))
        assert copy.decode(encoded.tokens) == f"{begin}a lamp{copy.eos_token}"


def test_the_texts_of_a_file_can_be_encoded(engine: Engine) -> None:
    for row in read_rows(FILES / "text.jsonl"):
        assert len(engine.encoder.conversation(row).tokens) > 5
