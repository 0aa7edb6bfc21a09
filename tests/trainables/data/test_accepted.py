"""Tests answers that are accepted by meaning: terms and patterns."""

from __future__ import annotations

import time
from typing import Any

import pytest

from trainables.data.accepted import Accepted, read_accepted
from trainables.errors import UserError

HELD = (
    *(("The answer is **4**.", "4"), ("It is 4.", "4"), ("two, four", "FOUR"), ("ＦＯＵＲ!", "four")),
    *(("答案是四。", "四"), ("C++.", "c++"), ("1,000 m", "1,000"), ("a five-year plan", "five"), ("Straße", "STRASSE")),
    *(("नमस्ते!", "नमस्ते"), ("It’s late", "it's late"), ("New\nYork", "new york"), ("minus −4", "-4"), ("a ½", "1/2")),
)  # fmt: skip
NOT_HELD = (
    *(("14", "4"), ("4.5", "4"), ("-4", "4"), ("4,000", "4"), ("10:04", "4"), ("3/4", "4"), ("fourteen", "four")),
    *(("Zürich", "zurich"), ("C++", "c"), ("york new", "new york"), ("", "a"), ("don't", "dont"), ("4 4 4 4 4 4", "4")),
)  # fmt: skip


@pytest.mark.parametrize(("answer", "term"), HELD)
def test_a_term_is_found_whatever_the_case_the_width_and_the_punctuation(answer: str, term: str) -> None:
    assert Accepted((term,)).matches(answer)
    assert Accepted(("other", term)).matches(answer)


@pytest.mark.parametrize(("answer", "term"), NOT_HELD)
def test_a_term_is_not_found_inside_a_word_or_a_number_nor_in_an_answer_that_repeats_itself(
    answer: str, term: str
) -> None:
    assert not Accepted((term,)).matches(answer)


def test_a_pattern_is_searched_in_the_answer_in_linear_time() -> None:
    assert read_accepted({"pattern": r"(?i)\bfou?r\b|\b4\b"}, "f:1") == Accepted(pattern=r"(?i)\bfou?r\b|\b4\b")
    assert Accepted(pattern=r"(?i)\bfour\b").matches("It is FOUR.") and not Accepted(pattern="four").matches("five")
    began = time.process_time()
    assert not Accepted(pattern="(a+)+(a|a)*b$").matches("xa ya za " * 50 + "a" * 60 + "c")
    assert time.process_time() - began < 1.0  # `re` would take longer than the universe has


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("4", "must be a list of terms, or a pattern, but got '4'"),
        ([], "must be a list of terms"),
        (["4", 4], "must be a list of terms"),
        ({"pattern": ""}, "must be a list of terms, or a pattern"),
        ({"pattern": "a", "flags": "i"}, "must be a list of terms, or a pattern"),
        (["?!"], "must hold a letter or a digit, but got '?!'"),
        ({"pattern": "("}, "must hold a regular expression of RE2"),
        ({"pattern": r"(a)\1"}, "must hold a regular expression of RE2"),
        ({"pattern": "a*"}, "that an empty answer does not match"),
        ({"pattern": "a" * 1001}, "at most 1000 characters, but it has 1,001"),
    ],
)
def test_a_value_that_cannot_judge_is_refused_with_its_place(value: Any, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        read_accepted(value, "rows.jsonl:3")
    assert caught.value.message.startswith("rows.jsonl:3: ") and expected in caught.value.message
