"""The live table in a notebook: one output below the cell that is replaced, with the lines above it."""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType

if TYPE_CHECKING:
    from IPython.display import DisplayHandle  # type: ignore[import-not-found] only in notebooks

COLUMNS = 110
MOST_NOTES = 200  # lines kept above the table


def display_in_notebook() -> Callable[..., Any] | None:
    """Return IPython's `display` in a notebook's kernel, None anywhere else."""
    try:
        from IPython.core.getipython import get_ipython  # type: ignore[import-not-found]
        from IPython.display import display  # type: ignore[import-not-found]
    except ImportError:
        return None
    shell = get_ipython()
    return display if shell is not None and hasattr(shell, "kernel") else None


class NotebookOutput:
    """The output of a cell that shows notes and, below them, what `shown` returns."""

    def __init__(self, display: Callable[..., Any], shown: Callable[[], RenderableType]) -> None:
        self.shown = shown
        self.notes: list[str] = []
        self._handle: DisplayHandle = display(self._html(), raw=True, display_id=True)

    def note(self, text: str) -> None:
        """Keep a line above the table; it appears when the table is drawn again."""
        self.notes = [*self.notes, text][-MOST_NOTES:]

    def refresh(self) -> None:
        """Draw again."""
        self._handle.update(self._html(), raw=True)

    def _html(self) -> dict[str, str]:
        text = "\n".join([*self.notes, _as_text(self.shown())])
        return {"text/plain": text, "text/html": f'<pre style="line-height:1.3">{html.escape(text)}</pre>'}


def _as_text(shown: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=COLUMNS, force_jupyter=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()
