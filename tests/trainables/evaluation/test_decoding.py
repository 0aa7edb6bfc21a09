"""Tests greedy decoding against PyTorch's argmax, one token at a time."""

from __future__ import annotations

import pytest

from trainables.data.encoding import collate
from trainables.engine import Engine
from trainables.evaluation.decoding import Decoded, decode_greedily, read_answers

MOST = 6


def by_hand(engine: Engine, number: int) -> Decoded:
    """Decode one prompt without a cache and without `generate`."""
    import torch

    encoder, output = engine.encoder, []
    prompt = engine.evaluator.prompts[number]
    with torch.no_grad():
        while len(output) < MOST:
            inputs = collate([prompt], encoder, engine.base.device, pad_left=True).inputs
            added = torch.tensor([output], dtype=torch.long)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], added], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if "mm_token_type_ids" in inputs:
                inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(added)], dim=1)
            token = int(engine.base.model(**inputs).logits[0, -1].argmax())
            if token in encoder.answer_ends:
                return Decoded(encoder.tokenizer.decode(output, skip_special_tokens=True).strip(), True)
            output.append(token)
    return Decoded(encoder.tokenizer.decode(output, skip_special_tokens=True).strip(), False)


def test_a_batch_answers_what_argmax_says_prompt_by_prompt(engine: Engine) -> None:
    prompts = engine.evaluator.prompts
    numbers = [0, 3, len(prompts) - 1]
    found = decode_greedily(
        engine.base.model, engine.encoder, engine.base.device, [prompts[number] for number in numbers], MOST
    )
    assert found == [by_hand(engine, number) for number in numbers]
    assert len({one.text for one in found}) > 1


@pytest.mark.parametrize(("padding", "ended"), [(0, False), (1, True), (3, True)])
def test_a_truncated_answer_is_marked(engine: Engine, padding: int, ended: bool) -> None:
    encoder = engine.encoder
    words = encoder.tokenizer("red lamp")["input_ids"]
    end = list(encoder.answer_ends)[:1] + [encoder.tokenizer.pad_token_id] * padding
    (one,) = read_answers([words + (end[:padding] if padding else [])], encoder)
    assert one == Decoded("red lamp", ended)
