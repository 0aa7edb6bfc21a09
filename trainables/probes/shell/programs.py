"""Finds the program that an interpreter runs: the text of an option, a file, or its standard input."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.probes.shell.calls import SHELLS, Call

INPUT = frozenset({"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"})
LONG_INLINE = frozenset({"--command", "--eval", "--print", "--run", "--file"})
LONG_VALUES = frozenset({"--rcfile", "--init-file", "--require", "--import"})


@dataclass(frozen=True)
class _Options:
    """Short options by letter: `inline` give the program, `valued` take the next word, `attached` the rest."""

    inline: str
    valued: str = ""
    attached: str = ""


SHELL = _Options("c", "oO")
OPTIONS = {
    **{name: _Options("cm", "WX") for name in ("python", "python2", "python3")},
    "perl": _Options("eE", "", "MmIiF0x"),
    "ruby": _Options("e", "rICE", "iFK0"),
    "node": _Options("ep", "rC"),
    "php": _Options("rRBEFf", "dcz"),
}


def program_of(call: Call) -> str:
    """Return the word that holds or names the program, or "" if it is read from standard input."""
    words = list(call.words)
    while words:
        word = words.pop(0)
        if word in INPUT:
            return ""
        if word == "--":  # a file follows; for `php`, arguments of a program on standard input
            return "" if call.name == "php" or not words else words[0]
        if word.startswith("--"):
            name, _, value = word.partition("=")
            if name in LONG_INLINE:
                return value or " ".join(words[:1])
            del words[: name in LONG_VALUES and not value]
        elif word.startswith("-"):
            program, skipped = _in_letters(call.name, word, words)
            if program is not None:
                return program
            del words[:skipped]
        elif not word.startswith("+"):
            return word
    return ""


def _in_letters(name: str, word: str, following: list[str]) -> tuple[str | None, int]:
    """Read `-abc`: return the program it gives, or None, and how many of the following words are its values."""
    options = SHELL if name in SHELLS else OPTIONS[name]
    skipped = 0
    for place, letter in enumerate(word[1:], start=2):
        if letter == "s" and name in SHELLS:
            return "", 0
        if letter in options.inline:
            rest = "" if name in SHELLS else word[place:]
            # in `-pe CODE` the last letter decides
            return (rest if len(rest) > 1 else " ".join(following[:1])), 0
        if letter in options.attached or (letter in options.valued and word[place:]):
            break
        skipped += letter in options.valued
    return None, skipped
