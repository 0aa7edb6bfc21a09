"""Lines that say what a launch does now: with the time of day where the output is no terminal, as in a log."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def say(console: Console, text: str) -> None:
    """Print a line of progress."""
    console.print(stamped(console, text), highlight=False, markup=False, soft_wrap=True)


def stamped(console: Console, text: str) -> str:
    """Return the text, after the time of day if the console is no terminal."""
    return text if console.is_terminal else f"{datetime.now().astimezone():%H:%M:%S} {text}"
