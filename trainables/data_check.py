"""What a data file holds, before anything reads it for training: `python -m trainables.data check FILE`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.data import Parsed, Row, named_once, parse_rows
from trainables.errors import UserError
from trainables.filtered import filter_into
from trainables.filters import BROKEN, FILTERS, length, parse_filters

if TYPE_CHECKING:
    from rich.console import RenderableType

    from trainables.scan import ScannedRow

SHOWN_PROBLEMS = 20
SHOWN_ROWS = 4  # of each finding, by id
WIDTH = 80

app = typer.Typer(
    help="Check and filter data files: JSONL or a JSON array, or `dataset_info.json:NAME`.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
File = Annotated[Path, typer.Argument(help="JSONL, a JSON array, or dataset_info.json:NAME.", show_default=False)]


@dataclass(frozen=True)
class Checked:
    """A file, row by row: every one as it was parsed, what is wrong, and its tokens where a base was given."""

    path: Path
    parsed: tuple[Parsed, ...]
    problems: tuple[str, ...]
    scanned: tuple[ScannedRow, ...] = ()

    @property
    def rows(self) -> list[Row]:
        """Return the rows that can be read."""
        return [one.row for one in self.parsed if isinstance(one.row, Row)]


@app.command()
def check(
    file: File,
    base: Annotated[Path | None, typer.Option(help="Model directory: counts tokens by its tokenizer.")] = None,
    max_tokens: Annotated[int, typer.Option(min=0, help="Rows must fit; needs --base.")] = 0,
) -> None:
    """Check every row and show what the file holds; exit code 2 when a row is broken or too long."""
    from rich.console import Console

    try:
        checked = check_file(file, base, max_tokens)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    console = Console(width=WIDTH, highlight=False, markup=False, emoji=False)
    for part in shown(checked):
        console.print(part, soft_wrap=isinstance(part, str))
    for problem in checked.problems[:SHOWN_PROBLEMS]:
        typer.echo(f"error: {problem}", err=True)
    if len(checked.problems) > SHOWN_PROBLEMS:
        typer.echo(f"error: and {len(checked.problems) - SHOWN_PROBLEMS:,} more", err=True)
    raise typer.Exit(2 if checked.problems else 0)


@app.command(name="filter")
def filter_command(
    file: File,
    drop: Annotated[str, typer.Option(help=f"{', '.join(FILTERS)}, short:N, long:N (characters).")],
    out: Annotated[Path, typer.Option(help="New file for the rows that are left.")],
) -> None:
    """Write the rows that filters leave, and OUT.filters.json with what each of them dropped."""
    try:
        typer.echo(filter_into(file, parse_filters(drop), out))
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None


def check_file(path: Path, base: Path | None = None, max_tokens: int = 0) -> Checked:
    """Read every row of a file, with a base also through its encoder, and collect all that is wrong.

    Raises:
        UserError: there is no such file, or the base has no tokenizer.
    """
    if max_tokens and base is None:
        raise UserError("--max-tokens needs --base: only a tokenizer can count tokens")
    parsed = tuple(parse_rows(path))
    rows = {one.line: one.row for one in parsed if isinstance(one.row, Row)}
    problems = [str(one.row) for one in parsed if isinstance(one.row, UserError)]
    if not problems:
        try:
            named_once(rows, path)
        except UserError as error:
            problems.append(str(error))
    scanned = _scanned(list(rows.values()), base) if base else ()
    for line, one in zip(rows, scanned, strict=False):
        if one.problem or one.tokens > max_tokens > 0:
            wrong = one.problem or f"row `{one.row_id}` must fit {max_tokens} tokens, but it has {one.tokens:,}"
            problems.append(f"{path}:{line}: {wrong}")
    return Checked(path, parsed, tuple(problems), scanned)


def _scanned(rows: Sequence[Row], base: Path) -> tuple[ScannedRow, ...]:
    from trainables.scan import load_encoder, scanned_row

    encoder = load_encoder(base)
    return tuple(scanned_row(row, encoder) for row in rows)


# -------------------------------------------------------------------- for a person to read
def shown(checked: Checked) -> list[RenderableType]:
    """Lay out what a file holds, 80 columns wide: what it is made of, and what filters would drop."""
    rows, broken = checked.rows, sum(isinstance(one.row, UserError) for one in checked.parsed)
    title = f"{checked.path}: {len(checked.parsed):,} rows" + (f", {broken:,} of them broken" if broken else "")
    if not rows:
        return [title]
    return [title, "", _grid(_facts(checked, rows)), "", "What each filter alone would drop:", _grid(_drops(rows))]


def _facts(checked: Checked, rows: list[Row]) -> list[tuple[str, ...]]:
    roles = Counter(message.role for row in rows for message in row.messages)
    pictures = [picture for row in rows for picture in row.images]
    facts = [
        ("format", _counts(Counter(one.format for one in checked.parsed if isinstance(one.row, Row)))),
        ("roles", _counts(roles)),
        ("turns", _spread([len(row.messages) for row in rows])),
        ("pictures", f"{len(pictures):,} of {len(set(pictures)):,} files in {sum(bool(row.images) for row in rows):,} "
                     "rows"),
        ("characters", _spread([length(row) for row in rows])),
        ("answers", f"{len({row.answer for row in rows}):,} different; characters "
                    f"{_spread([len(row.answer) for row in rows])}"),
    ]  # fmt: skip
    encoded = [one for one in checked.scanned if one.problem is None]
    if encoded:
        tokens = [one.tokens for one in encoded]
        labels, images = (sum(getattr(one, part) for one in encoded) for part in ("supervised_tokens", "image_tokens"))
        facts += [
            ("tokens", _spread(tokens)),
            ("", f"{sum(tokens):,} in all: {labels / sum(tokens):.0%} labels, {images / sum(tokens):.0%} pictures"),
        ]
    return facts


def _drops(rows: list[Row]) -> list[tuple[str, ...]]:
    found = []
    for name, drops in FILTERS.items():
        if name != BROKEN:
            ids = [row.row_id for row, gone in zip(rows, drops(rows), strict=True) if gone]
            more = f" and {len(ids) - SHOWN_ROWS:,} more" if len(ids) > SHOWN_ROWS else ""
            found.append((name, f"{len(ids):,}", ", ".join(ids[:SHOWN_ROWS]) + more))
    return found


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _spread(values: Iterable[int]) -> str:
    ordered = sorted(values)
    if ordered[0] == ordered[-1]:
        return f"{ordered[0]:,} each"
    half, most = (ordered[max(0, -(-len(ordered) * percent // 100) - 1)] for percent in (50, 95))
    return f"{ordered[0]:,} to {ordered[-1]:,}; half at most {half:,}, 95 % at most {most:,}"


def _grid(rows: Sequence[tuple[str, ...]]) -> RenderableType:
    from rich.table import Table

    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for number in range(len(rows[0])):
        grid.add_column(justify="right" if number == 1 and len(rows[0]) == 3 else "left", no_wrap=number == 0)
    for row in rows:
        grid.add_row(*row)
    return grid
