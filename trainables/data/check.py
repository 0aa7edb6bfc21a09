"""Checks a data file and summarizes its contents: `footprint data check FILE`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.data.dangerous_answers import danger_facts
from trainables.data.filtered_file import filter_into
from trainables.data.filters import BROKEN, FILTERS, length, parse_filters
from trainables.data.formats import COMPLETION
from trainables.data.images import picture_problem
from trainables.data.joined_files import locate_all
from trainables.data.ood import TEXT_KINDS, OodRow, check_kinds, needed_kinds, parse_ood
from trainables.data.picture_places import problems_of_places
from trainables.data.rows import ParsedRow, Row, parse_rows, rows_with_unique_ids
from trainables.data.structural_tokens import KNOWN_TOKENS, first_within
from trainables.errors import ExitCode, UserError
from trainables.io.jsonl import objects
from trainables.model.families import family_of
from trainables.probes.answer import main as answer
from trainables.probes.kit.__main__ import main as kit

if TYPE_CHECKING:
    from rich.console import RenderableType

    from trainables.data.scan import ScannedRow

SHOWN_PROBLEMS, WIDTH = 20, 80
SHOWN_ROWS = 4  # ids per filter

app = typer.Typer(
    help="Check and filter data files, and write rows of what a model must keep.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
FILE = typer.Argument(help="JSONL, a JSON array, dataset_info.json:NAME; several joined by commas.", show_default=False)


@dataclass(frozen=True)
class OodLine:
    """One row of an out-of-distribution file: its place, and the row or the error that describes it."""

    place: str
    row: OodRow | UserError


CheckedLine = ParsedRow | OodLine


@dataclass(frozen=True)
class Checked:
    """A checked file: its rows, the problems found, and token counts if a base was given.

    `unreadable_images` are image files of its rows that cannot be used. `structural` are the places of rows whose texts
    hold a token that ends or starts turns or shows pictures in known families, with the token.
    """

    path: Path
    parsed: tuple[CheckedLine, ...]
    problems: tuple[str, ...]
    scanned: tuple[ScannedRow, ...] = ()
    unreadable_images: frozenset[Path] = frozenset()
    structural: tuple[tuple[str, str], ...] = ()

    @property
    def rows(self) -> list[Row]:
        """Return the readable rows of a train or validation file."""
        return [one.row for one in self.parsed if isinstance(one.row, Row)]

    @property
    def questions(self) -> list[OodRow]:
        """Return the readable rows of an out-of-distribution file."""
        return [one.row for one in self.parsed if isinstance(one.row, OodRow)]


@app.command()
def check(
    file: Annotated[Path, FILE],
    base: Annotated[Path | None, typer.Option(help="Model directory; counts tokens.", show_default="none")] = None,
    max_tokens: Annotated[int, typer.Option(min=0, help="Largest allowed row in tokens; needs --base.")] = 0,
) -> None:
    """Check every row and summarize the file; exit code 2 if a row is broken or too long."""
    from rich.console import Console

    checked = check_file(file, base, max_tokens)
    console = Console(width=WIDTH, highlight=False, markup=False, emoji=False)
    for part in shown(checked):
        console.print(part, soft_wrap=isinstance(part, str))
    for place, token in () if base else checked.structural[:SHOWN_PROBLEMS]:
        typer.echo(f"warning: {place}: a text holds `{token}`; a base that has this token refuses the row", err=True)
    for problem in checked.problems[:SHOWN_PROBLEMS]:
        typer.echo(f"error: {problem}", err=True)
    if len(checked.problems) > SHOWN_PROBLEMS:
        typer.echo(f"error: and {len(checked.problems) - SHOWN_PROBLEMS:,} more", err=True)
    raise typer.Exit(ExitCode.BAD_INPUT if checked.problems else ExitCode.DONE)


@app.command(name="filter")
def filter_command(
    file: Annotated[Path, FILE],
    drop: Annotated[str, typer.Option(help=f"{', '.join(FILTERS)}, short:N, long:N (characters).")],
    out: Annotated[Path, typer.Option(help="New file for the remaining rows.")],
) -> None:
    """Write the remaining rows to OUT, and the rows that each filter dropped to OUT.filters.json."""
    typer.echo(filter_into(file, parse_filters(drop), out))


app.command("answer")(answer)
app.command("kit")(kit)


def check_file(path: Path, base: Path | None = None, max_tokens: int = 0) -> Checked:
    """Read every row of a file, encode it if a base is given, and collect all problems.

    Raises:
        UserError: the file does not exist, or the base has no tokenizer.
    """
    if max_tokens and base is None:
        raise UserError("--max-tokens needs --base: only a tokenizer can count tokens", "add --base DIR")
    parsed: tuple[CheckedLine, ...] = tuple(_ood_lines(path) if is_ood_file(path) else parse_rows(path))
    rows = {one.place: one.row for one in parsed if not isinstance(one.row, UserError)}
    problems = [str(one.row) for one in parsed if isinstance(one.row, UserError)]
    problems += _file_problems(rows, path, base) if not problems else []
    problems += problems_of_places(path, rows)
    bad_images = _unusable_images(rows)
    problems += [f"{place}: {problem}" for place, problem in bad_images.values()]
    scanned = _scanned(list(rows.values()), base) if base else ()
    reported = {place for place, row in rows.items() if not bad_images.keys().isdisjoint(row.images)}
    for place, one in zip(rows, scanned, strict=False):
        if place not in reported and (one.problem or one.tokens > max_tokens > 0):
            wrong = one.problem or f"row `{one.row_id}` must fit {max_tokens} tokens, but it has {one.tokens:,}"
            problems.append(f"{place}: {wrong}")
    return Checked(path, parsed, tuple(problems), scanned, frozenset(bad_images), tuple(_structural(rows)))


def _structural(rows: Mapping[str, Row | OodRow]) -> Iterator[tuple[str, str]]:
    for place, row in rows.items():
        texts = [message.text for message in row.messages if message.role != COMPLETION]
        texts += row.references if isinstance(row, OodRow) else ()
        token = first_within("\n".join(texts), KNOWN_TOKENS)
        if token is not None:
            yield place, token


def is_ood_file(path: Path) -> bool:
    """Return True for an out-of-distribution file: at least half of its rows have `kind`.

    Raises:
        UserError: the file does not exist or has another format.
    """
    files = locate_all(path)
    if any(one.format is not None or one.entry for one in files):  # the table's entry defines the columns
        return False
    have = ["kind" in values for one in files for _, values in objects(one.file) if not isinstance(values, UserError)]
    return any(have) and 2 * sum(have) >= len(have)


def _ood_lines(path: Path) -> Iterator[OodLine]:
    return (OodLine(place, row) for place, row in parse_ood(path))


def _file_problems(rows: Mapping[str, Row | OodRow], path: Path, base: Path | None) -> list[str]:
    """Return problems of the file as a whole; without a base only rows of kind `text` are required."""
    try:
        rows_with_unique_ids(rows, path)
        asked = [row for row in rows.values() if isinstance(row, OodRow)]
        if asked:
            check_kinds(asked, path, needed_kinds(family_of(base)[0].sees) if base else TEXT_KINDS)
    except UserError as error:
        return [str(error)]
    return []


def _unusable_images(rows: Mapping[str, Row | OodRow]) -> dict[Path, tuple[str, str]]:
    """Return the image files that cannot be used, each with the first place that names it and the problem."""
    first: dict[Path, str] = {}
    counts: Counter[Path] = Counter()
    for place, row in rows.items():
        for picture in set(row.images):
            first.setdefault(picture, place)
            counts[picture] += 1
    found = {}
    for picture, place in first.items():
        problem = picture_problem(picture)
        if problem is not None:
            others = f" ({counts[picture] - 1:,} more rows use it)" if counts[picture] > 1 else ""
            found[picture] = (place, f"the image {picture} {problem}{others}\nhint: replace it or drop its row")
    return found


def _scanned(rows: Sequence[Row | OodRow], base: Path) -> tuple[ScannedRow, ...]:
    from trainables.data.scan import load_encoder, scanned_question, scanned_row

    encoder = load_encoder(base)
    return tuple(scanned_row(row, encoder) if isinstance(row, Row) else scanned_question(row, encoder) for row in rows)


def shown(checked: Checked) -> list[RenderableType]:
    """Return the report on a file, 80 columns wide: its contents, and what each filter would drop."""
    rows, broken = checked.rows, sum(isinstance(one.row, UserError) for one in checked.parsed)
    title = f"{checked.path}: {len(checked.parsed):,} rows" + (f", {broken:,} of them broken" if broken else "")
    if checked.questions:
        return [title, "", _grid(_question_facts(checked))]
    if not rows:
        return [title]
    return [title, "", _grid(_facts(checked, rows)), "", "What each filter alone would drop:", _grid(_drops(rows))]


def _facts(checked: Checked, rows: list[Row]) -> list[tuple[str, ...]]:
    formats = Counter(one.format for one in checked.parsed if isinstance(one, ParsedRow) and isinstance(one.row, Row))
    facts = [
        ("format", _counts(formats)),
        ("roles", _counts(Counter(message.role for row in rows for message in row.messages))),
        ("turns", _spread([len(row.messages) for row in rows])),
        ("pictures", _pictures(rows, checked)),
        ("characters", _spread([length(row) for row in rows])),
        ("answers", f"{len({row.answer for row in rows}):,} different; characters "
                    f"{_spread([len(row.answer) for row in rows])}"),
    ]  # fmt: skip
    facts += danger_facts(rows, SHOWN_ROWS)
    unread = Counter(key for one in checked.parsed if isinstance(one, ParsedRow) for key in one.unread)
    facts += [("not read", f"{_counts(unread)}; the entry names no such columns")] if unread else []
    return [*facts, *_structure_facts(checked), *_token_facts(checked)]


def _question_facts(checked: Checked) -> list[tuple[str, ...]]:
    rows = checked.questions
    by_meaning = sum(row.accept is not None for row in rows)
    return [
        ("kinds", _counts(Counter(row.kind for row in rows))),
        *([("groups", groups)] if (groups := _counts(Counter(row.group for row in rows if row.group))) else []),
        ("pictures", _pictures(rows, checked)),
        ("prompts", f"characters {_spread([len(row.messages[-1].text) for row in rows])}"),
        ("expected", f"{len({row.expect for row in rows} - {None}):,} different answers"),
        *([("accepted", f"in {by_meaning:,} rows, by terms or a pattern")] if by_meaning else []),
        *_structure_facts(checked),
        *_token_facts(checked),
    ]


def _pictures(rows: Sequence[Row | OodRow], checked: Checked) -> str:
    pictures = [picture for row in rows for picture in row.images]
    unread = f"; {len(checked.unreadable_images):,} cannot be read" if checked.unreadable_images else ""
    shown_in = sum(bool(row.images) for row in rows)
    return f"{len(pictures):,} of {len(set(pictures)):,} files in {shown_in:,} rows{unread}"


def _structure_facts(checked: Checked) -> list[tuple[str, ...]]:
    found = Counter(token for _, token in checked.structural)
    return [("turn marks", f"{_counts(found)}; tokens that end turns or show pictures")] if found else []


def _token_facts(checked: Checked) -> list[tuple[str, ...]]:
    encoded = [one for one in checked.scanned if one.problem is None]
    if not encoded:
        return []
    tokens = [one.tokens for one in encoded]
    labels, images = (sum(getattr(one, part) for one in encoded) for part in ("supervised_tokens", "image_tokens"))
    return [
        ("tokens", _spread(tokens)),
        ("", f"{sum(tokens):,} in all: {labels / sum(tokens):.0%} labels, {images / sum(tokens):.0%} pictures"),
    ]


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
