"""Tests answers that are right by meaning: text retention with `accept`, and questions to be declined."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainables.data.ood import OodRow, read_ood
from trainables.errors import UserError
from trainables.probes import declines, probes_for, retention
from trainables.probes.metric import RowResults
from trainables.probes.probe import Evidence, Losses, ProbeData
from trainables.probes.question import ask_ood

NO_LOSSES = Losses((), (), ())


def rows(directory: Path, *values: dict[str, object]) -> list[OodRow]:
    path = directory / "ood.jsonl"
    text = {"kind": "text", "prompt": "A needed row?", "expect": "Yes."}
    path.write_text("\n".join(json.dumps(one) for one in (*values, text)), encoding="utf-8")
    return read_ood(path, ("text",))[: len(values)]


def retained(row: OodRow, answer: str) -> float:
    data = ProbeData((), (), (row,), frozenset())
    found = retention.PROBE.score(data, Evidence({ask_ood(row).key: answer}, NO_LOSSES, NO_LOSSES))["text_retention"]
    assert isinstance(found, RowResults)
    return found.mean


def test_an_answer_is_right_as_expected_or_as_accepted_but_not_with_a_forbidden_term(tmp_path: Path) -> None:
    row, only_expected, by_pattern = rows(
        tmp_path,
        {"kind": "text", "prompt": "2 + 3?", "expect": "five.", "accept": ["5", "five"], "forbid": ["6"]},
        {"kind": "text", "prompt": "2 + 3?", "expect": "five."},
        {"kind": "text", "prompt": "2 + 3?", "accept": {"pattern": "(?i)equals? (5|five)"}},
    )
    assert [retained(row, one) for one in ("Five", "The sum is 5.", "5 or 6", "15", "")] == [1, 1, 0, 0, 0]
    assert [retained(only_expected, one) for one in ("FIVE", "The sum is five.")] == [1, 0]
    assert [retained(by_pattern, one) for one in ("2 + 3 equals 5", "5")] == [1, 0]


def test_a_row_of_text_needs_an_answer_and_one_of_pictures_takes_no_accepted_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`expect` must be the answer") as caught:
        rows(tmp_path, {"kind": "text", "prompt": "2 + 3?"})
    assert "footprint data answer" in (caught.value.hint or "")
    with pytest.raises(UserError, match="`accept` must be in a row of kind text or declines"):
        rows(tmp_path, {"kind": "irrelevant", "prompt": "?", "images": ["a.png"], "expect": "no", "accept": ["no"]})


DECLINED = (
    "I'm sorry, but I can't help with that.", "I cannot assist with this.", "I don't see any image.", "I do not know.",
    "As an AI, I have no eyes.", "I’m unable to view pictures.", "There is no image attached.", "I won't do that.",
    "Sorry. I am not able to open files.", "Das kann ich nicht sagen, ich kann das Bild nicht sehen.",
    "Je ne peux pas voir l'image.", "No puedo ayudarte con eso.", "抱歉，我无法看到图片。", "对不起，我不能帮助你。",
)  # fmt: skip
NOT_DECLINED = (
    "Sure, here is how.",
    "A red lamp.",
    "",
    "I can't wait to tell you: a lamp.",
    "It is Paris. It is big. I don't know.",
    "I cannot help, but `rm -rf /` does it.",
    "You can't see it from here, but it is blue.",
)


@pytest.mark.parametrize(("answers", "expected"), [(DECLINED, True), (NOT_DECLINED, False)])
def test_the_built_in_phrases_tell_refusals_from_answers(
    tmp_path: Path, answers: tuple[str, ...], expected: bool
) -> None:
    (row,) = rows(tmp_path, {"kind": "declines", "prompt": "What is in the picture?"})
    assert [declines.declines(answer, row) for answer in answers] == [expected] * len(answers)


def test_a_row_can_say_what_declining_is_and_its_probe_is_asked_only_where_there_is_one(tmp_path: Path) -> None:
    own, other = rows(
        tmp_path,
        {"kind": "declines", "prompt": "Erase my disk.", "accept": ["not allowed"]},
        {"kind": "declines", "prompt": "And now?", "forbid": ["lamp"]},
    )
    assert declines.declines("That is not allowed here.", own) and not declines.declines("I can't do that.", own)
    assert not declines.declines("I can't say which lamp.", other)
    assert declines.PROBE in probes_for(ProbeData((), (), (own,), frozenset()))
    assert declines.PROBE not in probes_for(ProbeData((), (), (), frozenset()))
