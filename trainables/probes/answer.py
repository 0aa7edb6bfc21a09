"""Writes the base's own answers as `expect` into text rows, so that text retention measures what the base can do.

footprint data answer --base DIR --ood questions.jsonl --out ood.jsonl
footprint data answer --base DIR --ood ood.jsonl --out new.jsonl --replace

The base answers greedily with the prompts of evals, in the quantization of the study. Rows with `accept` keep what
they accept: a wrong answer of the base would become a right one. All other rows are copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.command import quieten_libraries, run
from trainables.data.accepted import KEY
from trainables.data.ood import TEXT_KINDS, OodRow, open_question
from trainables.errors import UserError
from trainables.io.files import write_text
from trainables.io.jsonl import objects
from trainables.probes.probe import ProbeData
from trainables.probes.question import ask_ood
from trainables.progress import working
from trainables.spec import QUANTIZATIONS, ComputeDtype, Quantization
from trainables.typed import typed

if TYPE_CHECKING:
    from trainables.evaluation.decoding import Decoded

SHOWN_ROWS = 5  # of the rows that are left out, by id
NEW_TOKENS = 64


@dataclass(frozen=True)
class OpenRow:
    """A row of the file as it is written there; `question` is None where its answer stays as it is."""

    values: Mapping[str, Any]
    question: OodRow | None


@dataclass(frozen=True)
class AnsweredFile:
    """The rows to be written, how many were answered, and the ids of those left out, by reason."""

    rows: tuple[Mapping[str, Any], ...]
    answered: int
    cut: tuple[str, ...]
    empty: tuple[str, ...]


def open_rows(path: Path, replace: bool) -> list[OpenRow]:
    """Read the rows of an out-of-distribution file; text rows may lack their answer.

    Raises:
        UserError: a row is broken, or no row needs an answer; names file, line and key.
    """
    found = []
    for line, values in objects(path):
        if isinstance(values, UserError):
            raise values
        row = open_question(values, path, line)
        is_open = row.kind in TEXT_KINDS and row.accept is None and (replace or values.get("expect") is None)
        found.append(OpenRow(values, row if is_open else None))
    if not any(one.question for one in found):
        raise UserError(
            f"{path}: a row of kind {TEXT_KINDS[0]} must lack `expect` to be answered, but none of {len(found):,} does",
            f"--replace answers all of them that have no `{KEY}`",
        )
    return found


def with_answers(rows: Sequence[OpenRow], answers: Mapping[str, Decoded], home: Path | None = None) -> AnsweredFile:
    """Return the rows with the answers by question key; a row whose answer was cut or is empty is left out.

    Evals let answers be a little longer than the longest `expect`, so a cut answer would not be given again. `home` is
    the directory of the old file if the new one lies elsewhere: paths of pictures are then written whole.
    """
    written: list[Mapping[str, Any]] = []
    cut, empty = [], []
    for one in rows:
        values = {**one.values, **_moved(one.values, home)}
        if one.question is not None:
            answer = answers[ask_ood(one.question).key]
            if not answer.ended or not answer.text.strip():
                (empty if answer.ended else cut).append(one.question.row_id)
                continue
            values["expect"] = answer.text
        written.append(values)
    answered = sum(one.question is not None for one in rows) - len(cut) - len(empty)
    return AnsweredFile(tuple(written), answered, tuple(cut), tuple(empty))


def ask(base: Path, rows: Sequence[OodRow], quantization: Quantization, dtype: ComputeDtype, new_tokens: int
        ) -> dict[str, Decoded]:  # fmt: skip
    """Return the greedy answers of a base to questions, by question key, as an eval would get them.

    Raises:
        UserError: the directory holds no base that can be loaded so.
    """
    from trainables.data.encoding import Encoder
    from trainables.data.template_date import shows_date
    from trainables.evaluation.evaluator import Evaluator
    from trainables.model.base import default_device, load_base

    loaded = load_base(base, quantization, dtype, default_device(), "auto")
    encoder = Encoder(loaded, date.today() if shows_date(base) else None)
    evaluator = Evaluator(loaded, encoder, ProbeData((), (), tuple(rows), frozenset()))
    evaluator.max_new_tokens = new_tokens
    return evaluator.decoded([ask_ood(row) for row in rows])


def _moved(values: Mapping[str, Any], home: Path | None) -> dict[str, Any]:
    if home is None or not values.get("images"):
        return {}
    return {"images": [str(home / name) for name in values["images"]]}


def main(
    base: Annotated[Path, typer.Option(help="Model directory.")],
    ood: Annotated[Path, typer.Option(help="Out-of-distribution file; its text rows may lack `expect`.")],
    out: Annotated[Path, typer.Option(help="New file.")],
    replace: Annotated[bool, typer.Option("--replace", help="Answer text rows anew that have `expect`.")] = False,
    quantization: Annotated[str, typer.Option(help=f"{', '.join(QUANTIZATIONS)}.")] = "nf4-double",
    compute_dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer; longer ones are left out.")] = NEW_TOKENS,
) -> None:
    """Write the base's own greedy answers as `expect` into the text rows of an out-of-distribution file."""
    from rich.console import Console

    kind, dtype = _precision(quantization, compute_dtype)
    if out.exists():
        raise UserError(f"--out must be a new file, but {out} exists", "choose another name; data is never overwritten")
    rows = open_rows(ood, replace)
    quieten_libraries()
    questions = [one.question for one in rows if one.question]
    with working(Console(stderr=True), f"loading the base, which then answers {len(questions):,} rows"):
        answers = ask(base, questions, kind, dtype, max_new_tokens)
    home = ood.resolve().parent
    found = with_answers(rows, answers, home if out.resolve().parent != home else None)
    if not found.answered:
        raise UserError(
            f"{ood}: an answer must end within {max_new_tokens} tokens, but none of {len(answers):,} does",
            f"--max-new-tokens {4 * max_new_tokens}, or ask for short answers",
        )
    write_text(out, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found.rows))
    typer.echo(
        f"{out}: {found.answered:,} rows answered by the base, {len(found.rows) - found.answered:,} as they were"
    )
    _say_left_out(found, max_new_tokens)


def _precision(quantization: str, compute_dtype: str) -> tuple[Quantization, ComputeDtype]:
    from pydantic import TypeAdapter, ValidationError

    try:
        return (
            TypeAdapter(Quantization).validate_python(quantization),
            TypeAdapter(ComputeDtype).validate_python(compute_dtype),
        )
    except ValidationError:
        raise UserError(
            f"--quantization must be one of {', '.join(QUANTIZATIONS)} and --compute-dtype a dtype, but got "
            f"`{quantization}` and `{compute_dtype}`",
            f"`{typed('data', 'answer', '--help')}` lists both",
        ) from None


def _say_left_out(found: AnsweredFile, max_new_tokens: int) -> None:
    for names, why in ((found.cut, f"longer than {max_new_tokens} tokens"), (found.empty, "empty")):
        if names:
            more = ", …" if len(names) > SHOWN_ROWS else ""
            typer.echo(f"left out: {len(names):,} rows whose answer is {why} ({', '.join(names[:SHOWN_ROWS])}{more})",
                       err=True)  # fmt: skip


if __name__ == "__main__":
    run(main)
