"""Reads the general questions that a model must keep answering, and makes rows of them.

A text file has one question a line; an answer may follow a tab, and further right answers follow ` | `. A JSONL file
has `prompt` or `question`, and may have `answer`, `expect` or `accept`; rows of a conversation are asked their
question, and the base answers it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainables.data.normalize import normalize_row
from trainables.data.ood import OOD_KEYS
from trainables.errors import UserError, nearest, quoted
from trainables.io.jsonl import objects

GENERAL = Path(__file__).with_name("general_questions.tsv")
PLAIN = (".txt", ".tsv", ".text", ".md", "")
MOST_QUESTIONS = 200
FORMS = 'one question a line, `question<TAB>answer`, or JSONL such as {"prompt": "…", "accept": ["…"]}'
SYNONYMS = {"question": "prompt", "answer": "accept"}


def questions_in(path: Path) -> list[dict[str, Any]]:
    """Return rows of kind `text` for the questions of a file, at most 200, evenly taken; equal ones are asked once.

    Raises:
        UserError: the file cannot be read, is empty, or a line is no question.
    """
    if not path.is_file():
        raise UserError(f"questions must be a file, but {path} is {'no file' if path.exists() else 'not there'}",
                        "check the path; it may be relative")  # fmt: skip
    rows = _rows_of_text(path) if path.suffix.lower() in PLAIN else _rows_of_objects(path)
    found = list({row["prompt"].strip(): row for row in rows}.values())
    if not found:
        raise UserError(f"{path}: there must be a question, but the file is empty", FORMS)
    if len(found) > MOST_QUESTIONS:
        found = [found[number * len(found) // MOST_QUESTIONS] for number in range(MOST_QUESTIONS)]
    return [{"id": f"general-{number:03d}", "kind": "text", **row} for number, row in enumerate(found, start=1)]


def is_open(row: Mapping[str, Any]) -> bool:
    """Return True if a row of text names no right answer yet."""
    return row["kind"] == "text" and row.get("expect") is None and row.get("accept") is None


def _rows_of_text(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: questions must be text in UTF-8, but {error}", FORMS) from None
    for number, line in enumerate(lines, start=1):
        question, *answers = (part.strip() for part in line.split("\t"))
        if not question and not any(answers):
            continue
        if not question or len(answers) > 1 or "\0" in line:
            raise UserError(f"{path}:{number}: a line must be a question, or a question, one tab and its answer, but "
                            f"got {quoted(line)}", FORMS)  # fmt: skip
        terms = [term for one in answers for part in one.split(" | ") if (term := part.strip())]
        yield {"prompt": question, **({"accept": terms} if terms else {})}


def _rows_of_objects(path: Path) -> Iterator[dict[str, Any]]:
    for line, values in objects(path):
        if isinstance(values, UserError):
            raise values
        where = f"{path}:{line}"
        named = {SYNONYMS.get(key, key): value for key, value in values.items()}
        if "prompt" not in named:
            yield _question_of_row(values, where)
            continue
        unknown = next((key for key in named if key not in (*OOD_KEYS, "response", "metadata")), None)
        if unknown:
            raise UserError(f"{where}: `{unknown}` is not a key of a question", nearest(unknown, OOD_KEYS))
        yield _kept(named, where)


def _kept(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    if values.get("kind", "text") != "text" or values.get("images"):
        raise UserError(f"{where}: a question must be text alone, but this row shows pictures or is of another kind",
                        "pictures come from a directory of their own: --keep DIR")  # fmt: skip
    if not isinstance(values["prompt"], str) or not values["prompt"].strip():
        raise UserError(f"{where}: a question must be a text, but got {quoted(values['prompt'])}", FORMS)
    kept = {key: values[key] for key in ("group", "system", "prompt", "expect", "accept", "forbid") if key in values}
    return {**kept, **({"accept": [kept["accept"]]} if isinstance(kept.get("accept"), str) else {})}


def _question_of_row(values: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        turns = normalize_row(values, where, None).messages
    except UserError as error:
        raise UserError(error.message, FORMS) from None
    asked = [turn.text for turn in turns if turn.role == "user"]
    if len(asked) != 1:
        raise UserError(f"{where}: a conversation must ask one question to be kept, but it has {len(asked)}", FORMS)
    system = next((turn.text for turn in turns if turn.role == "system"), "")
    return {**({"system": system} if system else {}), "prompt": asked[0]}
