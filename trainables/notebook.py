"""Outputs of a notebook's cell that are replaced in place, where the code runs in a notebook's kernel."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import DisplayHandle  # type: ignore[import-not-found] only in notebooks


def display_in_notebook() -> Callable[..., Any] | None:
    """Return IPython's `display` in a notebook's kernel, None anywhere else."""
    if "IPython" not in sys.modules:  # a kernel has loaded it; elsewhere it would be loaded for nothing
        return None
    from IPython.core.getipython import get_ipython  # type: ignore[import-not-found]
    from IPython.display import display  # type: ignore[import-not-found]

    shell = get_ipython()
    return display if shell is not None and hasattr(shell, "kernel") else None


class CellText:
    """One output below a cell, whose text is replaced; `display` is IPython's."""

    def __init__(self, display: Callable[..., Any], text: str) -> None:
        self._handle: DisplayHandle = display(_as_bundle(text), raw=True, display_id=True)

    def replace(self, text: str) -> None:
        """Show another text."""
        self._handle.update(_as_bundle(text), raw=True)


def _as_bundle(text: str) -> dict[str, str]:
    return {"text/plain": text, "text/html": f'<pre style="line-height:1.3">{html.escape(text)}</pre>'}
