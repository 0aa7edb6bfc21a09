"""Shows an import: every key and its effect, every setting and its source."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeps.importers.parsing import KeyLine, ParsedConfig
from sweeps.importers.setting import Setting

SHOWN_CHARACTERS = 24


def keys_text(parsed: ParsedConfig) -> Group:
    """Show every key of the file with its effect; keys without effect are grouped by reason."""
    used = [line for line in parsed.lines if line.used]
    rest = sorted((line for line in parsed.lines if not line.used and not line.differs), key=lambda line: line.effect)
    head = f"{parsed.document.path.name} ({parsed.tool.name}): {len(parsed.lines)} keys, {len(used)} used"
    reasons = [
        Text.assemble((f"  {reason}: ", "italic"), ", ".join(f"{line.key} ({line.number})" for line in lines))
        for reason, lines in groupby(rest, key=lambda line: line.effect)
    ]
    table = _table(("line", "key", "value", "became"), [_row(line) for line in used])
    have = "has" if len(rest) == 1 else "have"
    return Group(
        Text(head, style="bold"), table, Text(f"{len(rest)} {have} no effect on the trial:", style="bold"), *reasons
    )


def differences(parsed: ParsedConfig, settings: Sequence[Setting]) -> list[str]:
    """Return one sentence for each thing by which the trial's results differ from the tool's."""
    lines = sorted((line for line in parsed.lines if line.differs), key=lambda line: line.effect)
    of_keys = [
        f"{reason} ({', '.join(f'{line.key}, line {line.number}' for line in same)})"
        for reason, same in groupby(lines, key=lambda line: line.effect)
    ]
    return [*of_keys, *(f"{one.differs} ({one.source})" for one in settings if one.differs)]


def differences_text(parsed: ParsedConfig, settings: Sequence[Setting]) -> list[Group]:
    """Show by what the trial's results differ from the tool's; empty if by nothing."""
    found = differences(parsed, settings)
    head = Text(f"results differ from those of {parsed.tool.name}:", style="bold")
    return [Group(head, *(Text(f"  {one}") for one in found))] if found else []


def settings_text(settings: Sequence[Setting]) -> Group:
    """Show every setting of the trial and its source."""
    rows = [(one.name, _short(one.value), one.source) for one in settings]
    return Group(Text("the trial", style="bold"), _table(("setting", "value", "from"), rows))


def as_json(parsed: ParsedConfig, settings: Sequence[Setting]) -> dict[str, Any]:
    """Return the import as plain values, to be stored with the records.

    The value of a key without effect is left out: it may be a token for a hub or a tracker.
    """
    return {
        "file": str(parsed.document.path),
        "tool": parsed.tool.name,
        "keys": [{"key": one.key, "line": one.number, "value": one.value if one.used or one.differs else None,
                  "used": one.used, "became": one.effect} for one in parsed.lines],
        "differences": differences(parsed, settings),
        "settings": [{"setting": one.name, "value": one.value, "from": one.source} for one in settings],
    }  # fmt: skip


def _row(line: KeyLine) -> tuple[str, ...]:
    return (str(line.number), line.key, _short(line.value), line.effect)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    for name in header:
        table.add_column(name, justify="right" if name == "line" else "left", overflow="fold",
                         no_wrap=name not in {"became", "from"})  # fmt: skip
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, float):
        value = f"{value:g}"
    text = "" if value is None else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
