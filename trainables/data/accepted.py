"""Answers that are accepted by meaning: terms that must occur in an answer, or a pattern that must match it.

An answer and a term are compared as sequences of words. Unicode compatibility forms (full-width letters, ligatures),
case and punctuation make no difference; accents do. A number keeps its sign, decimal and thousands marks: `4` is not
found in `14`, `4.5` or `-4`. Letters of scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) are
words of their own, so a term is also found inside a longer word there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from trainables.data.text import is_degenerate
from trainables.errors import UserError, quoted

KEY, PATTERN = "accept", "pattern"
LONGEST_PATTERN = 1000  # characters
PATTERN_BYTES = 1 << 20  # of the compiled program
TYPED = str.maketrans(
    {"\u2044": "/", "\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u2212": "-", "\u00ad": None}
)  # as typed
UNSPACED = (
    ("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"), ("\u3040", "\u30ff"), ("\u3400", "\u4dbf"),
    ("\u4e00", "\u9fff"), ("\uf900", "\ufaff"), ("\U00020000", "\U0003ffff"),
)  # fmt: skip
EXAMPLE = '"accept": ["4", "four"] or "accept": {"pattern": "(?i)fou?r|4"}'


@dataclass(frozen=True)
class Accepted:
    """What makes an answer right: one of the terms occurs in it, or the pattern is found in it."""

    terms: tuple[str, ...] = ()
    pattern: str = ""

    def matches(self, answer: str) -> bool:
        """Return True if the answer holds a term or the pattern, and is not one block repeated."""
        if is_degenerate(answer):
            return False
        if self.pattern:
            return _compiled(self.pattern).search(unicodedata.normalize("NFKC", answer)) is not None
        return holds_term(answer, self.terms)


def holds_term(answer: str, terms: Sequence[str]) -> bool:
    """Return True if the words of one of the terms follow each other in the answer."""
    found = f" {' '.join(spoken_words(answer))} "
    return any(f" {' '.join(_term_words(term))} " in found for term in terms)


def spoken_words(text: str) -> list[str]:
    """Return the words and numbers of a text without case, punctuation and compatibility forms."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(TYPED)
    words, run = [], ""
    for before, one, after in zip(" " + folded, folded, folded[1:] + " ", strict=False):
        if not _is_unspaced(one) and (_is_letter(one) or _joins(before, one, after)):
            run += one
            continue
        words += [run] if run else []
        words += [one] if _is_unspaced(one) and _is_letter(one) else []
        run = ""
    return words + ([run] if run else [])


def read_accepted(value: Any, where: str) -> Accepted | None:
    """Read the key `accept` of a row: None without it.

    Raises:
        UserError: it is neither a list of terms nor a pattern, or the pattern is none; names file, line and key.
    """
    if value is None:
        return None
    if isinstance(value, dict) and set(value) == {PATTERN} and isinstance(value[PATTERN], str) and value[PATTERN]:
        return Accepted(pattern=_checked(value[PATTERN], where))
    is_list = isinstance(value, list) and value and all(isinstance(one, str) for one in value)
    if not is_list:
        raise UserError(f"{where}: `{KEY}` must be a list of terms, or a pattern, but got {quoted(value)}", EXAMPLE)
    for term in value:
        if not spoken_words(term):
            raise UserError(
                f"{where}: a term of `{KEY}` must hold a letter or a digit, but got {quoted(term)}",
                f'for punctuation use a pattern: "{KEY}": {{"{PATTERN}": "..."}}',
            )
    return Accepted(terms=tuple(value))


def _checked(pattern: str, where: str) -> str:
    if len(pattern) > LONGEST_PATTERN:
        raise UserError(f"{where}: `{KEY}` must hold a pattern of at most {LONGEST_PATTERN} characters, but it has "
                        f"{len(pattern):,}")  # fmt: skip
    try:
        found = _compiled(pattern).search("")
    except _library().error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise UserError(
            f"{where}: `{KEY}` must hold a regular expression of RE2, but {reason}: {quoted(pattern)}",
            "RE2 takes linear time, so it has no backreferences and no look-around",
        ) from None
    if found is not None:
        raise UserError(
            f"{where}: `{KEY}` must hold a pattern that an empty answer does not match, but {quoted(pattern)} does"
        )
    return pattern


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> Any:
    options = _library().Options()
    options.max_mem, options.log_errors = PATTERN_BYTES, False
    return _library().compile(pattern, options)


def _library() -> Any:
    try:
        import re2
    except ModuleNotFoundError:
        raise UserError(
            f"`{KEY}` with a pattern needs the library RE2, which is not installed", "pip install google-re2"
        ) from None
    return re2


@cache
def _term_words(term: str) -> tuple[str, ...]:
    return tuple(spoken_words(term))


def _is_letter(one: str) -> bool:
    return unicodedata.category(one)[0] in "LNM"


def _is_unspaced(one: str) -> bool:
    return any(first <= one <= last for first, last in UNSPACED)


def _joins(before: str, one: str, after: str) -> bool:
    """Return True for a mark inside a word or a number: `it's`, `4.5`, `1,000`, `-4`, `c++`."""
    if one in ".,:/":
        return before.isdigit() and after.isdigit()
    if one == "'":
        return before.isalpha() and after.isalpha()
    if one == "-":
        return after.isdigit() and not _is_letter(before)
    return one in "+#" and (before.isalpha() or before == one) and not _is_letter(after)
