"""Tests that each message of `docs/troubleshooting.md` is one that the code still prints."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
GAP = "…"  # in the page, where the code puts a value


def template(node: ast.expr) -> str:
    """Return a text of the code with a gap for every value that is put into it."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(template(one) for one in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left) + template(right)
    return GAP


@cache
def templates() -> frozenset[str]:
    """Return every text of the packages with at least three words."""
    found = set()
    for package in ("sweeps", "trainables", "analysis"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found |= {
                text
                for node in ast.walk(tree)
                if isinstance(node, ast.expr) and (text := template(node)).count(" ") > 1
            }
    return frozenset(found)


def messages(page: str) -> list[str]:
    """Return the first cell of each row of the tables."""
    rows = re.findall(r"^\| (.+?) \| ", page, re.MULTILINE)
    return [row for row in rows if row not in ("message", "---")]


def is_printed(message: str) -> bool:
    """True if one text of the code has the parts of a message between its gaps, in order."""
    parts = [re.escape(part.strip(" `")) for part in message.split(GAP) if part.strip(" `")]
    pattern = re.compile(".*".join(parts), re.DOTALL)
    return any(pattern.search(one) for one in templates())


def test_every_message_is_printed_by_the_code() -> None:
    found = messages(PAGE.read_text(encoding="utf-8"))
    assert len(found) >= 60
    assert [one for one in found if not is_printed(one)] == []


def test_every_message_has_a_cause_and_something_to_do() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert [row for row in rows if len(re.split(r" \| ", row.strip("| "))) != 3] == []


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("a launch must have at most … trials, but got …", True),
        ("a launch must have at least … trials, but got …", False),
        ("trials, but got … a launch must have at most", False),
    ],
)
def test_a_message_that_nobody_prints_is_found(message: str, printed: bool) -> None:
    assert is_printed(message) is printed
