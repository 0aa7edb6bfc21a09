"""A table that is wider than its terminal goes on below, and no cell of it is cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from trainables.folded import Folded, parts

NAME = "a-long-arm-L12-V24-r128-a256-s42"


def shown(table: Table, width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(Folded(table))
    return file.getvalue()


def wide_table(rows: int = 3) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("trial", no_wrap=True)
    for number in range(12):
        table.add_column(f"column{number}", justify="right", no_wrap=True)
    for row in range(rows):
        table.add_row(f"{NAME}-{row}", *(f"value{row}-{number}" for number in range(12)), style="bold")
    return table


@pytest.mark.parametrize("width", [50, 80, 132])
def test_every_cell_and_header_is_whole_at_any_width(width: int) -> None:
    text = shown(wide_table(), width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    for row in range(3):
        assert all(f"value{row}-{number}" in text for number in range(12))
    assert all(f"column{number}" in text for number in range(12))
    assert text.count(f"{NAME}-0") == text.count("trial") > 1, "each part says whose values it has"


def test_a_table_that_fits_stays_as_it_is() -> None:
    text = shown(wide_table(), 400)
    assert len(text.splitlines()) == 4


def test_a_text_that_may_wrap_does_so_before_a_column_moves() -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("trial", "seeds", "why"):
        table.add_column(name, no_wrap=name != "why")
    table.add_row("C2", "3", "not separable from the arms that have less of both, as the draws of rows and seeds say")
    text = shown(table, 50)
    assert text.count("trial") == 1 and max(map(len, text.splitlines())) <= 50 and "…" not in text


def test_a_word_that_is_longer_than_the_terminal_goes_on_in_the_next_line() -> None:
    table = Table("metric", "value", box=None, pad_edge=False)
    table.add_row("x" * 100, "0.5")
    text = shown(table, 60)
    assert "…" not in text and text.count("x") == 100


def test_columns_are_taken_in_order() -> None:
    assert parts([10, 5, 5, 5], 25) == [[0, 1, 2, 3]]
    assert parts([10, 5, 5, 5], 20) == [[0, 1, 2], [0, 3]]
    assert parts([10, 50, 5, 5], 20) == [[0, 1], [0, 2, 3]]
