"""The live table in a notebook: one output below the cell that is replaced, with the lines above it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType

from trainables.notebook import CellText

COLUMNS = 110
MOST_NOTES = 200  # lines kept above the table


class NotebookOutput:
    """The output of a cell that shows notes and, below them, what `shown` returns."""

    def __init__(self, display: Callable[..., Any], shown: Callable[[], RenderableType]) -> None:
        self.shown = shown
        self.notes: list[str] = []
        self._cell = CellText(display, self._text())

    def note(self, text: str) -> None:
        """Keep a line above the table; it appears when the table is drawn again."""
        self.notes = [*self.notes, text][-MOST_NOTES:]

    def refresh(self) -> None:
        """Draw again."""
        self._cell.replace(self._text())

    def _text(self) -> str:
        return "\n".join([*self.notes, _as_text(self.shown())])


def _as_text(shown: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=COLUMNS, force_jupyter=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()
