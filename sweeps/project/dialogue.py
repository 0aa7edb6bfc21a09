"""Asks the four questions of `footprint init`, or takes the answers from its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer

from sweeps.project.base_facts import BaseFacts, facts_of
from sweeps.project.choices import Choices, Kept, TaskRows, epochs_of, kept_of, refusal_of, task_rows, yes_or_no
from sweeps.project.study_of_base import sensible_epochs
from trainables.errors import UserError

OWN_REFUSAL = "无关图片"  # the agreed answer of the miniature
T = TypeVar("T")
WHICH_BASE = "1. Which base? A directory, a hub name, or a miniature that needs nothing: mini (sees), mini-text"
WHICH_ROWS = "2. Which training rows? A JSONL file"
WHICH_PICTURES = "3. What must it keep? A directory of pictures outside the task, or `drawn` for drawn ones"
WHICH_QUESTIONS = "3. What must it keep? A file of general questions, one a line, or `built-in`"
WHICH_ANSWER = "4. What is the right answer to a picture outside the task?"
HOW_LONG = "4. How many passes over the training rows?"
WHETHER_NOW = "Ask the base the general questions now, and keep those that it answers? yes or no"


@dataclass(frozen=True)
class Given:
    """The options of the command line."""

    base: str = ""
    train: Path | None = None
    validation: Path | None = None
    keep: tuple[Path, ...] = ()
    refusal: str = ""
    epochs: str = ""
    answer: bool | None = None


def chosen(given: Given, asks: bool) -> tuple[Choices, bool]:
    """Return what was chosen, and whether the base is to be asked its questions now.

    Raises:
        UserError: an option is wrong or missing, or the input ends before an answer.
    """
    if asks:
        return _asked()
    base = facts_of(given.base or "mini")
    if given.train is None and not base.is_miniature:
        raise UserError("a base of your own needs training rows of your own, but --train is not given",
                        "--train rows.jsonl; `footprint data check rows.jsonl` lists its problems")  # fmt: skip
    if given.train is None and (given.validation or given.keep):
        raise UserError("--val and --keep go with training rows, but --train is not given", "--train rows.jsonl")
    task = task_rows(given.train, given.validation, base) if given.train else None
    kept = kept_of(given.keep, base.sees)
    refusal = _refusal(given, base, task)
    epochs = epochs_of(given.epochs) if given.epochs else _epochs(base, task)
    asks_base = given.answer if given.answer is not None else _is_worth_asking(base, kept)
    return Choices(base, task, kept, refusal, epochs), asks_base and task is not None


def _asked() -> tuple[Choices, bool]:
    base = _ask(WHICH_BASE, "mini", facts_of)
    default = "the miniature's" if base.is_miniature else None
    task = _ask(WHICH_ROWS, default, lambda text: None if text == default else task_rows(Path(text), None, base))
    if task is None:
        return Choices(base, None, Kept()), False
    own = "the miniature's" if base.is_miniature else "drawn" if base.sees else "built-in"
    question = WHICH_PICTURES if base.sees else WHICH_QUESTIONS
    kept = _ask(question, own, lambda text: kept_of(() if text == own else (Path(text),), base.sees))
    if base.sees:
        refusal = _ask(WHICH_ANSWER, OWN_REFUSAL if base.is_miniature else None, refusal_of)
        return Choices(base, task, kept, refusal, _epochs(base, task)), _is_worth_asking(base, kept)
    epochs = _ask(HOW_LONG, f"{_epochs(base, task) or 1:g}", epochs_of)
    return Choices(base, task, kept, "", epochs), _asks_now(base, kept)


def _refusal(given: Given, base: BaseFacts, task: TaskRows | None) -> str:
    if not base.sees or task is None:
        if given.refusal:
            raise UserError("--refusal is the answer to a picture outside the task, but no picture will be shown",
                            "leave it out, or name a base that sees and training rows")  # fmt: skip
        return ""
    if not given.refusal and not base.is_miniature:
        raise UserError(
            "a base that sees needs the right answer to a picture outside the task, but --refusal is not given",
            'the answer that your system turn or your rows agree on: --refusal "Unrelated picture."',
        )
    return refusal_of(given.refusal or OWN_REFUSAL)


def _epochs(base: BaseFacts, task: TaskRows | None) -> float:
    """Return the passes by default; a miniature has a budget of its own."""
    return 0.0 if task is None or base.is_miniature else float(sensible_epochs(len(task.rows)))


def _is_worth_asking(base: BaseFacts, kept: Kept) -> bool:
    """Return True for a small base, unless the questions are those that the miniature was made with."""
    return base.is_quick and not (base.is_miniature and kept.questions is None)


def _asks_now(base: BaseFacts, kept: Kept) -> bool:
    if base.is_miniature and kept.questions is None:
        return False
    return _ask(WHETHER_NOW, "yes" if base.is_quick else "no", yes_or_no)


def _ask(question: str, default: str | None, read: Callable[[str], T]) -> T:
    """Ask until the answer can be read; an empty line is the default.

    Raises:
        UserError: the input ends.
    """
    while True:
        typer.echo(f"{question}{f' [{default}]' if default else ''}: ", nl=False)
        try:
            text = input().strip()
        except EOFError:
            hint = "--yes takes the defaults; `footprint init --help` lists the options"
            raise UserError("the questions need answers, but the input has ended", hint) from None
        if not text and default is None:
            continue
        try:
            return read(text or default or "")
        except UserError as error:
            typer.echo(f"error: {error}", err=True)
