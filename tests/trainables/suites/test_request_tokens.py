"""Tests how many tokens the requests of a suite take, by which a plan says what an eval costs."""

from __future__ import annotations

from trainables.mini.text import BASE_DIRECTORY
from trainables.model.base import load_tokenizer
from trainables.suites.answering import Generation, Likelihood
from trainables.suites.lm_eval_probe import tokens_of


def test_requests_take_their_texts_and_answers_at_their_longest() -> None:
    tokenizer = load_tokenizer(BASE_DIRECTORY)

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    question, answer = "Show the disk usage.", " df -h"
    assert tokens_of([Generation(question, (), 64)], tokenizer) == count(question) + 64
    assert tokens_of([Likelihood(question, answer)], tokenizer) == count(question + answer)
    both = [Generation(question, ("\n",), 8), Likelihood(question, answer), Likelihood("", answer)]
    assert tokens_of(both, tokenizer) == count(question) + 8 + count(question + answer) + count(answer)
    assert tokens_of([], tokenizer) == 0
