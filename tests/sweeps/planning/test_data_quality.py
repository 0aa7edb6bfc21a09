"""Tests the findings of a data scan: each fault is planted in hand-made rows, at its threshold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scanned_rows import row, rows, scan_of

from sweeps.planning.data_checks import check_data
from sweeps.planning.data_quality import file_quality
from sweeps.planning.finding import PreflightFinding
from sweeps.study import PREFLIGHT_LIMITS
from trainables.data.scan import Scan


def found(scan: Scan) -> dict[str, PreflightFinding]:
    return {one.check: one for one in check_data(scan, PREFLIGHT_LIMITS)}


def test_valid_data_has_no_finding() -> None:
    assert found(scan_of()) == {}


@pytest.mark.parametrize("name", ["train", "validation", "ood"])
def test_a_row_that_cannot_be_encoded_is_refused(name: str) -> None:
    broken = row("broken", tokens=0, supervised_tokens=0, image_tokens=0, problem="a picture is cut")
    findings = found(scan_of(**{name: [broken]}))
    assert list(findings) == ["encoding"]
    assert findings["encoding"].level == "refuse"
    assert f"every row of {name} must be encodable" in findings["encoding"].message
    assert findings["encoding"].message.endswith("(broken) are not; the first: a picture is cut")


@pytest.mark.parametrize("supervised_tokens", [0, 1, 39])
@pytest.mark.parametrize(("count", "level"), [(9, "warn"), (10, "refuse")])
def test_rows_without_labels_or_with_nothing_else(supervised_tokens: int, count: int, level: str) -> None:
    """No label, only the end of the turn, or every token; one percent of a thousand rows is refused."""
    scan = scan_of(train=rows("mute", count, supervised_tokens=supervised_tokens))
    assert {check: one.level for check, one in found(scan).items()} == {"labels": level}


@pytest.mark.parametrize("supervised_tokens", [2, 38])
def test_rows_that_supervise_their_answer_are_valid(supervised_tokens: int) -> None:
    assert found(scan_of(train=rows("sound", 500, supervised_tokens=supervised_tokens))) == {}


def test_repeated_rows_are_reported() -> None:
    twice = row("first")
    repeats = [replace(twice, row_id=f"again-{index}") for index in range(51)]
    assert found(scan_of(train=[twice, *repeats[:50]])) == {}
    message = found(scan_of(train=[twice, *repeats]))["repeated_rows"].message
    assert "but 51 of 1,000 (again-0, again-1, again-2, again-3, again-4, ...) do" in message


def test_the_same_text_under_another_picture_is_no_repetition() -> None:
    alike = rows("class", 500, question="What state?", answer="closed")
    assert found(scan_of(train=alike)) == {}
    quality = file_quality(alike)
    assert (quality.same_text.count, quality.repeated.count, quality.contradictory.count) == (499, 0, 0)


def test_two_answers_to_one_question_are_reported() -> None:
    asked = row("first")
    contrary = [replace(asked, row_id=f"other-{index}", answer=f"another {index}") for index in range(11)]
    assert found(scan_of(train=[asked, *contrary[:10]])) == {}
    assert "11 of 1,000" in found(scan_of(train=[asked, *contrary]))["contradictions"].message


def test_one_answer_for_everything_is_reported() -> None:
    same = replace(scan_of(), train=rows("train", 1000, answer="yes"))
    assert list(found(same)) == ["one_answer"]
    assert found(replace(same, train=(*same.train[1:], row("other")))) == {}


@pytest.mark.parametrize("name", ["validation", "ood"])
@pytest.mark.parametrize(("count", "level"), [(1, "warn"), (10, "warn"), (11, "refuse")])
def test_a_picture_of_train_in_an_eval(name: str, count: int, level: str) -> None:
    """Other words about the same picture: the check of whole rows cannot see it."""
    leaked = rows("leaked", count, pictures=("picture train-7", "its own"))
    findings = found(scan_of(**{name: leaked}))
    assert {check: one.level for check, one in findings.items()} == {"picture_leak": level}
    assert f"a picture of {name} must not also be in train" in findings["picture_leak"].message


def test_a_question_of_train_in_an_eval() -> None:
    """Only where there is no picture: with one, the picture is what is asked about."""
    train = [row("asked", question="two plus three", pictures=())]
    leaked = rows("leaked", 11, question="two plus three", pictures=())
    assert {check: one.level for check, one in found(scan_of(train, leaked)).items()} == {"question_leak": "refuse"}
    assert found(scan_of(train, leaked[:10]))["question_leak"].level == "warn"
    assert found(scan_of(train, rows("shown", 11, question="two plus three"))) == {}
    assert found(scan_of(rows("shown", 1, question="two plus three"), leaked)) == {}


def test_lengths_and_their_histogram() -> None:
    lengths = [1, 2, 3, 64, 65, *[100] * 95]
    quality = file_quality([row(str(index), tokens=tokens) for index, tokens in enumerate(lengths)])
    assert quality.histogram == {1: 1, 2: 1, 4: 1, 64: 1, 128: 96}
    spread = file_quality([row(str(tokens), tokens=tokens) for tokens in range(1, 101)]).lengths
    assert (spread.shortest, spread.median, spread.longest_of_95_percent, spread.longest) == (1, 50, 95, 100)
    assert file_quality([row("broken", tokens=0, problem="cut")]).lengths.longest == 0


def test_a_fully_supervised_text_is_not_a_finding() -> None:
    texts = rows("text", 20, supervised_tokens=39, is_completion=True)
    assert found(scan_of(train=texts)) == {}
    assert "labels" in found(scan_of(train=[replace(one, is_completion=False) for one in texts]))


def test_texts_ask_nothing_so_none_contradicts_another() -> None:
    texts = [replace(one, question="", pictures=()) for one in rows("text", 20, is_completion=True)]
    assert found(scan_of(train=texts)) == {}
    assert "contradictions" in found(scan_of(train=[replace(one, is_completion=False) for one in texts]))
