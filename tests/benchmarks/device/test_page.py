"""Tests the page of a run on a device, and the command's refusals."""

from __future__ import annotations

import pytest

from benchmarks.device.page import page, shown, table
from benchmarks.gpu import main
from trainables.errors import UserError

RESULTS = {
    "machine": {"date": "2026-11-29", "device": "a CPU; no GPU was seen", "versions": "torch 2"},
    "small": True,
    "budget_seconds": 480.0,
    "seconds": 12.3,
    "sections": {
        "modes": {
            "title": "Every quantization", "status": "done", "notes": ["a < b, but <b> is no tag"],
            "tables": [{"title": "Losses", "header": ["mode", "loss"], "rows": [["nf4|x", 1.25], ["fp4", None]]}],
        },
        "evals": {"title": "What an eval costs", "status": "skipped: needs 30 s, but 4 s are left"},
    },
}  # fmt: skip


def test_the_page_shows_tables_notes_and_what_was_skipped() -> None:
    text = page(RESULTS)
    assert "a CPU; no GPU was seen" in text and "the figures mean nothing" in text
    assert "| nf4\\|x | 1.25 |\n| fp4 | - |" in text
    assert "**skipped: needs 30 s, but 4 s are left**" in text
    assert "**done**" not in text
    assert "- a < b, but &lt;b> is no tag" in text


def test_a_page_of_real_sizes_has_no_warning() -> None:
    assert "mean nothing" not in page({**RESULTS, "small": False})


def test_numbers_are_shown_with_three_digits() -> None:
    values = [0.0, 0.00012, 0.1234, 12.345, 123456.7, 1024, None, "text"]
    assert [shown(one) for one in values] == ["0", "1.2e-04", "0.123", "12.3", "123,457", "1,024", "-", "text"]


def test_a_table_has_a_line_for_each_row() -> None:
    assert table({"header": ["a", "b"], "rows": [[1, 2.0]]}) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


@pytest.mark.parametrize(
    ("given", "named"),
    [({"device": "cpu"}, "--small"), ({"device": "gpu"}, "cuda:NUMBER"), ({"device": "cuda:99"}, "CUDA devices"),
     ({"device": "cpu", "small": True, "only": "modez"}, "modes")],
)  # fmt: skip
def test_a_device_or_section_that_is_not_there_is_refused(given: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        main(**given)  # type: ignore[arg-type]
