"""The exit codes of all commands."""

from __future__ import annotations

from benchmarks.reference.tables import code, page, table
from trainables.errors import EXIT_CODE_MEANINGS

INTRODUCTION = """
Every command ends with one of these codes. A failure that was foreseen prints `error:` and, where something can be
done, `hint:`; [troubleshooting](../troubleshooting.md) lists the messages.
"""


def exit_codes_page() -> str:
    """Return the page of exit codes."""
    rows = [(str(int(one)), code(one.name), meaning) for one, meaning in EXIT_CODE_MEANINGS.items()]
    return page("Exit codes", INTRODUCTION, table(("code", "name", "meaning"), rows))
