"""The supported formats of rows: which keys they have, and which one a row is of.

The format of a row is detected by its key: `messages` (OpenAI, also with content parts), `conversations` (ShareGPT,
LLaVA), `conversation` (ms-swift), `text` (completion), `prompt` with `response` or `completion` (TRL, texts or turns),
`query` and `response` (ms-swift), or `instruction`, `input` and `output` (Alpaca). Two of these keys or an unknown key
are errors; put values that no trial reads into `metadata`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.errors import UserError, named, quoted

ROLES = ("system", "user", "assistant")
COMPLETION = "completion"  # the role of a plain text without turns
IMAGE_TAG = "<image>"
THINK = "<think>"
MOST_LISTED = 12  # keys of a row in an error
SPEAKERS = {"human": "user", "gpt": "assistant", "developer": "system"}
TYPO_CUTOFF = 0.75  # similarity above which a name is taken for a misspelt one


@dataclass(frozen=True)
class Message:
    """One turn; `<image>` in the text is the place of the next image.

    An answer that is not `supervised` is context alone: none of its tokens has a label.
    """

    role: str
    text: str
    supervised: bool = True


@dataclass(frozen=True)
class Format:
    """The keys of a row format; an empty name means that the format has no such part.

    `turn_keys` are the accepted pairs of keys for role and text. `speakers` maps names to roles. With `is_entry` the
    row is read as LLaMA-Factory reads an entry of its table: other keys are ignored, other speakers are errors, and the
    turns must alternate.
    """

    name: str
    turns: str = ""
    text: str = ""
    question: str = ""
    context: str = ""
    answer: str = ""
    history: str = ""
    system: str = ""
    images: tuple[str, ...] = ("images", "image")
    row_id: str = "id"
    turn_keys: tuple[tuple[str, str], ...] = (("role", "content"), ("from", "value"))
    speakers: Mapping[str, str] = field(default_factory=lambda: SPEAKERS)
    is_entry: bool = False

    @property
    def mark(self) -> str:
        """Return the key by which rows of this format are detected."""
        return self.turns or self.text or self.question

    @property
    def keys(self) -> tuple[str, ...]:
        """Return every key that is read."""
        parts = (self.row_id, self.turns, self.text, self.question, self.context, self.answer, self.history)
        return tuple(filter(None, (*parts, self.system, *self.images)))


FORMATS = (
    Format("messages", turns="messages", system="system"),
    Format("conversations", turns="conversations", system="system"),
    Format("text", text="text", images=()),
    Format("prompt", question="prompt", answer="response", system="system"),
    Format("prompt and completion", question="prompt", answer="completion"),
    Format("alpaca", question="instruction", context="input", answer="output", history="history", system="system"),
    Format("query", question="query", answer="response", history="history", system="system"),
    Format("conversation", turns="conversation", system="system"),
)
MARKS = tuple(dict.fromkeys(form.mark for form in FORMATS))


def format_of(given: Mapping[str, Any], where: str) -> Format:
    """Return the format of a row with these keys.

    Raises:
        UserError: the row has no format, or two; names `where` and the keys.
    """
    marked = [form for form in FORMATS if form.mark in given]
    found = [form for form in marked if not form.answer or form.answer in given] or marked[:1]
    marks = list(dict.fromkeys(form.mark for form in marked))
    if len(found) == len(marks) == 1:
        return found[0]
    if marked:
        two = marks if len(marks) > 1 else [form.answer for form in found]
        raise UserError(
            f"{where}: a row must be of one format, but it has {listed(two)}",
            "keep one of them, or name the columns in a dataset_info.json",
        )
    unknown = [key for key in given if key not in {"id", "metadata", "images", "image"}]
    raise UserError(
        f"{where}: a row must have one of {listed(MARKS)}, but its keys are {listed(given) or 'none'}",
        typo(unknown[0], MARKS) if unknown else "see the formats in docs/formats.md",
    )


def check_keys(given: Mapping[str, Any], form: Format, where: str) -> None:
    """Check that a format reads every key of a row; an entry of a table must only not misspell its columns.

    Raises:
        UserError: names `where` and the key.
    """
    if form.is_entry:
        for column in (name for name in form.keys if name != form.row_id and name not in given):
            similar = difflib.get_close_matches(column, [key for key in given if key not in form.keys], n=1, cutoff=0.8)
            if similar:
                raise UserError(
                    f"{where}: a row must have the column `{column}` of its entry, but it has `{named(similar[0])}`",
                    "rename one of them in the file or in dataset_info.json",
                )
        return
    for key in given:
        if key not in form.keys and key != "metadata":
            raise UserError(
                f"{where}: `{named(key)}` is not a key of a row with `{form.mark}`",
                f"put values that no trial reads into `metadata`; {typo(key, (*form.keys, 'metadata'))}",
            )
    if not isinstance(given.get("metadata", {}), dict):
        raise UserError(f"{where}: `metadata` must be an object, but got {quoted(given['metadata'])}")


def typo(word: str, known: Iterable[str]) -> str:
    """Suggest the known word of which `word` is a misspelling, else list all of them."""
    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(word.casefold(), names, n=1, cutoff=TYPO_CUTOFF)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(names)}"


def listed(keys: Iterable[str]) -> str:
    """Return keys in backticks, the first `MOST_LISTED` of them."""
    found = [f"`{named(key)}`" for key in keys]
    more = f" and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
    return ", ".join(found[:MOST_LISTED]) + more


def text_of(given: Mapping[str, Any], key: str, where: str) -> str:
    """Return the text at `key`.

    Raises:
        UserError: there is none, or it is no text.
    """
    if not isinstance(given.get(key), str):
        raise UserError(f"{where}: `{key}` must be a text, but got {quoted(given.get(key))}")
    return given[key]
