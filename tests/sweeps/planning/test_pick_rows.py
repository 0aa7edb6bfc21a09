"""Tests what a plan says of the rows on which a pick is judged: at the least number, and one below it."""

from __future__ import annotations

import pytest

from sweeps.planning.pick_rows import pick_findings, pick_rows, pick_rows_text
from trainables.constraint import CONSTRAINT, TextConstraint
from trainables.rows_needed import LEVEL, least_rows
from trainables.spec import Format

LEAST = least_rows(LEVEL, 0.1)


@pytest.mark.parametrize(("spec_format", "irrelevant", "counted"), [(3, 192, 48), (3, 20, 20), (2, 192, 192)])
def test_only_the_core_is_counted_where_there_is_a_reserve(spec_format: Format, irrelevant: int, counted: int) -> None:
    rows = pick_rows(CONSTRAINT, (("caption", 30), ("irrelevant", irrelevant)), spec_format)
    assert rows == {"irrelevant_pass": counted, "hallucination": counted}
    assert pick_rows(TextConstraint(), (("text", 112), ("irrelevant", 5)), 3) == {"text_retention": 112}


def test_the_plan_names_the_least_rows_and_warns_one_below_them() -> None:
    enough = pick_rows(CONSTRAINT, (("irrelevant", LEAST),), 3)
    assert f"needs {LEAST} rows of irrelevant_pass ({LEAST} here) and" in pick_rows_text(CONSTRAINT, enough)
    assert pick_findings(CONSTRAINT, enough) == []
    found = pick_findings(CONSTRAINT, pick_rows(CONSTRAINT, (("irrelevant", LEAST - 1),), 3))
    assert [(one.level, one.check) for one in found] == [("warn", "pick_rows")] * 2
    assert found[0].message.startswith(
        f"irrelevant_pass is measured on {LEAST - 1} rows: even an arm without a failure"
    )
    assert found[0].hint == f"give {LEAST} or more irrelevant rows in --ood"


def test_rows_that_are_not_known_say_nothing() -> None:
    assert (
        pick_rows(CONSTRAINT, (), 3) == {}
        and pick_rows_text(CONSTRAINT, {}) == ""
        and not pick_findings(CONSTRAINT, {})
    )
