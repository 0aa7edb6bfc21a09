"""Tests that every test which `docs/faults.md` names exists, and that every row says how its fault was planted."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "faults.md"
NAMED = re.compile(r"`(test_\w+)`")
DEFINED = re.compile(r"^ *def (test_\w+)", re.MULTILINE)
OTHERWISE = ("make chaos", "state machine", "no test here yet")


def defined() -> set[str]:
    return {name for path in (ROOT / "tests").rglob("test_*.py") for name in DEFINED.findall(path.read_text())}


def unknown(text: str) -> set[str]:
    return set(NAMED.findall(text)) - defined()


def rows(text: str) -> list[str]:
    """Return the rows of the table of faults."""
    section = text.partition("## Faults, one by one")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][2:]


def test_every_test_that_the_page_names_exists() -> None:
    assert unknown(PAGE.read_text(encoding="utf-8")) == set()


def test_every_row_names_how_it_was_planted() -> None:
    found = rows(PAGE.read_text(encoding="utf-8"))
    assert len(found) > 30
    assert [row for row in found if not NAMED.search(row) and not any(one in row for one in OTHERWISE)] == []


def test_a_name_that_no_test_has_is_found() -> None:
    name = "test_" + "that_nobody_wrote"  # composed: this file is searched too
    assert unknown(f"| a fault | `{name}` | seen |") == {name}
