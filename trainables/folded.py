"""A table of any width on a narrow terminal: what does not fit goes on below, and nothing is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Column, Table

READABLE = 16  # columns that a text needs at least, if it is longer, to be wrapped readably
ENDLESS = 100_000


@dataclass(frozen=True)
class Folded:
    """A table without a box; each part of a folded one begins with the first column again."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the table, or its parts."""
        _, right, _, left = self.table.padding
        widths = [left + _needed(one, console, options) + right for one in self.table.columns]
        for numbers in parts(widths, options.max_width + (0 if self.table.pad_edge else left + right)):
            yield self._part(numbers, is_whole=len(numbers) == len(widths))

    def _part(self, numbers: Sequence[int], is_whole: bool) -> Table:
        from rich.table import Table

        whole = self.table
        if is_whole:
            for column in whole.columns:
                column.overflow = "fold"  # a single word that is too long goes on in the next line
            return whole
        part = Table(box=None, padding=whole.padding, pad_edge=whole.pad_edge, header_style=whole.header_style,
                     show_header=whole.show_header)  # fmt: skip
        for number in numbers:
            one = whole.columns[number]
            part.add_column(one.header, justify=one.justify, no_wrap=one.no_wrap, style=one.style, overflow="fold")
        cells = [list(whole.columns[number].cells) for number in numbers]
        for row, texts in zip(whole.rows, zip(*cells, strict=True), strict=True):
            part.add_row(*texts, style=row.style)
        return part


def parts(widths: Sequence[int], most: int) -> list[list[int]]:
    """Return the numbers of the columns of each part, at most `most` wide where one column can be; 0 is in each."""
    if sum(widths) <= most or len(widths) < 3:
        return [list(range(len(widths)))]
    found = [[0]]
    for number, width in enumerate(widths[1:], 1):
        if len(found[-1]) > 1 and sum(widths[one] for one in found[-1]) + width > most:
            found.append([0])
        found[-1].append(number)
    return found


def _needed(column: Column, console: Console, options: ConsoleOptions) -> int:
    """Return the width that the texts of a column need; a text that may wrap needs less than its length."""
    from rich.measure import Measurement

    endless = options.update(width=ENDLESS)
    longest, shortest = 0, 0
    for cell in (column.header, *column.cells):
        found = Measurement.get(console, endless, cell)
        longest, shortest = max(longest, found.maximum), max(shortest, found.minimum)
    return longest if column.no_wrap else max(shortest, min(longest, READABLE))
