"""Fills the templates of pages; each template is in the folder `templates` of the package that uses it."""

from __future__ import annotations

import re
import shlex
from typing import Any

from trainables.typed import typed

CELL_LETTERS = 160
# the start of a tag, a comment or a declaration in CommonMark; `0.71 < 0.80` is not one
TAG_START = re.compile(r"<(?=[A-Za-z/!?])")
BLANK_LINES = re.compile(r"\n{3,}")


def html(package: str, name: str, /, **values: Any) -> str:
    """Fill an HTML template of `package`; every value is escaped unless its type is `markupsafe.Markup`."""
    return _render(package, name, values, autoescape=True)


def markdown(package: str, name: str, /, **values: Any) -> str:
    """Fill a Markdown template of `package`; the filters `cell`, `prose` and `code` keep a value from being markup."""
    text = _render(package, name, values, autoescape=False)
    return BLANK_LINES.sub("\n\n", text)  # skipped branches of the template leave blank lines


def cell(value: object, letters: int = CELL_LETTERS) -> str:
    """Return a value as one cell of a Markdown table: on one line, cut to so many letters, without markup."""
    flat = " ".join(str(value).split())
    cut = flat if len(flat) <= letters else flat[: letters - 1] + "…"
    return cut.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def prose(value: object) -> str:
    """Return a value as part of a Markdown sentence, in which no HTML can begin."""
    return TAG_START.sub("&lt;", str(value))


def code(value: object) -> str:
    """Return a value as a Markdown code span; its fence is longer than any run of backticks in the value."""
    text = " ".join(str(value).split())
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"`{text}`"


def shell(value: object) -> str:
    """Return a value as one word of a command, on one line."""
    return shlex.quote(" ".join(str(value).split()))


def rounded(value: float | None) -> str:
    """Return a number without decimals, or `not known`."""
    return "not known" if value is None else f"{value:,.0f}"


def _render(package: str, name: str, values: dict[str, Any], *, autoescape: bool) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package),
        autoescape=autoescape,  # noqa: S701 off only for Markdown, where the filters escape values
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({one.__name__: one for one in (cell, prose, code, shell, rounded)})
    environment.globals["typed"] = typed
    return environment.get_template(name).render(values)
