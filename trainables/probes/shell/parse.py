"""Parses shell text without running it: words, pipelines, redirections and nested scripts.

It covers what is needed of POSIX and bash to tell which program gets which words, and expands nothing. Quotes and
backslashes are removed from words; `$NAME`, `$(...)` and globs stay as written. Any text is accepted, in linear time.
Source: POSIX.1-2024, Shell Command Language. `docs/decisions/shell-parser.md` compares it with tree-sitter-bash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

REDIRECTION = re.compile(r"\d*(?:<<<|<<-?|<>|<&|<|>>|>\||>&|>)(?!\()|&>>|&>")
OPERATOR = re.compile(r"&&|\|\||\|&|;;|[;&|()\n]")
ARITHMETIC = re.compile(r"\(\([^()]*(?:\([^()]*\)[^()]*)*\)\)")
ANSI_C = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{1,4})|([0-7]{1,3})|(.))", re.DOTALL)
ANSI_C_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}
HERE_DOCUMENT = "<<body"  # internal token before the body of a here-document, no operator of a shell
WORD_ENDS = " \t\r\n;&|()<>"
MAX_NESTING = 40  # of quotes and substitutions in one word; keeps a degenerate answer from exhausting the stack


@dataclass(frozen=True)
class Word:
    """A word without its quotes; `is_bare` where it had none, `scripts` are the substitutions inside it."""

    text: str
    is_bare: bool
    scripts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """One simple command: its words and where it writes (`> FILE`), appends (`>> FILE`) and is fed text from."""

    words: tuple[Word, ...] = ()
    writes: tuple[str, ...] = ()
    appends: tuple[str, ...] = ()
    here_texts: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Script:
    """A text read as shell: its pipelines; `is_whole` unless a quote or a bracket stays open."""

    pipelines: tuple[tuple[Command, ...], ...]
    is_whole: bool
    has_comment: bool


@dataclass
class _Scanner:
    text: str
    at: int = 0
    nesting: int = 0
    is_whole: bool = True
    has_comment: bool = False
    here_ends: list[str] = field(default_factory=list)

    def tokens(self) -> Iterator[Word | str]:
        """Yield words and operators in order; a here-document follows the line end that opens it as one word."""
        while self.at < len(self.text):
            character = self.text[self.at]
            operator = REDIRECTION.match(self.text, self.at) or OPERATOR.match(self.text, self.at)
            if self.text.startswith("\\\n", self.at):
                self.at += 2
            elif character in " \t\r":
                self.at += 1
            elif character == "#":
                self.has_comment = True
                self.at = self._find("\n")
            elif arithmetic := ARITHMETIC.match(self.text, self.at):
                self.at = arithmetic.end()
                yield Word(arithmetic.group(), is_bare=False)
            elif operator:
                self.at = operator.end()
                yield operator.group()
                if operator.group() == "\n":
                    yield from self._here_documents()
            else:
                yield self._word()

    def _find(self, mark: str) -> int:
        place = self.text.find(mark, self.at)
        return len(self.text) if place < 0 else place

    def _here_documents(self) -> Iterator[Word | str]:
        for end in self.here_ends:
            closing = re.compile(rf"^\t*{re.escape(end)}$", re.MULTILINE).search(self.text, self.at)
            self.is_whole &= closing is not None
            body = self.text[self.at : closing.start() if closing else len(self.text)]
            self.at = closing.end() if closing else len(self.text)
            yield HERE_DOCUMENT
            yield Word(body, is_bare=False)
        self.here_ends.clear()

    def _word(self) -> Word:
        pieces: list[str] = []
        scripts: list[str] = []
        is_bare = True
        while self.at < len(self.text):
            opens_script = self.text.startswith(("<(", ">("), self.at)
            if self.text[self.at] in WORD_ENDS and not opens_script:
                break
            start = self.at
            pieces.append(self._piece(scripts, quoted=False))
            is_bare &= pieces[-1] == self.text[start : self.at] and not opens_script
        return Word("".join(pieces), is_bare, tuple(scripts))

    def _piece(self, scripts: list[str], quoted: bool) -> str:
        """Read one character, one quoted stretch or one expansion; return its text without quotes."""
        if self.nesting > MAX_NESTING:
            self.is_whole = False
            self.at += 1
            return self.text[self.at - 1]
        self.nesting += 1
        piece = self._nested_piece(scripts, quoted)
        self.nesting -= 1
        return piece

    def _nested_piece(self, scripts: list[str], quoted: bool) -> str:
        rest, start = self.text[self.at : self.at + 3], self.at
        if rest[0] == "\\":
            self.at, escaped = self.at + 2, rest[1:2]
            return "" if escaped == "\n" else escaped if not quoted or escaped in '$`"\\' else rest[:2]
        if rest[:2] == "$'" and not quoted:
            self.at += 1
            return ANSI_C.sub(_ansi_c_character, self._until("'", escapes=True))
        if rest[0] == "'" and not quoted:
            return self._until("'")
        if rest[0] == '"' and not quoted:
            return self._double_quoted(scripts)
        if rest[0] == "`":
            scripts.append(self._until("`", escapes=True).replace("\\`", "`"))
        elif rest == "$((":
            self._until_balanced("(", ")", scripts)
        elif rest[:2] in ("$(", "<(", ">(") and not (quoted and rest[0] != "$"):
            scripts.append(self._until_balanced("(", ")"))
        elif rest[:2] == "${":
            self._until_balanced("{", "}", scripts)
        elif not quoted and rest[1:2] == "(" and rest[0] in "!?*+@":  # an extended pattern of bash
            self._until_balanced("(", ")", [])
        else:
            self.at += 1
        return self.text[start : self.at]

    def _double_quoted(self, scripts: list[str]) -> str:
        pieces: list[str] = []
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] != '"':
            pieces.append(self._piece(scripts, quoted=True))
        self.is_whole &= self.at < len(self.text)
        self.at += 1
        return "".join(pieces)

    def _until(self, mark: str, escapes: bool = False) -> str:
        """Read from one mark to the next and return the text between; with `escapes` a backslash escapes the mark."""
        self.at += 1
        start = self.at
        self.at = self._find(mark)
        while escapes and self.at < len(self.text) and _is_escaped(self.text, start, self.at):
            self.at += 1
            self.at = self._find(mark)
        self.is_whole &= self.at < len(self.text)
        self.at += 1
        return self.text[start : self.at - 1]

    def _until_balanced(self, opening: str, closing: str, scripts: list[str] | None = None) -> str:
        """Read `$(...)`, `<(...)` or `${...}` to its closing bracket and return the text between.

        With `scripts`, the substitutions inside are added to it; without, the text itself is a script to be parsed.
        """
        inner: list[str] = [] if scripts is None else scripts
        self.at = start = self.at + 2
        depth = 1
        while self.at < len(self.text):
            character = self.text[self.at]
            depth += (character == opening) - (character == closing)
            if depth == 0:
                self.at += 1
                return self.text[start : self.at - 1]
            if character in "'\"`\\" or (scripts is not None and self.text.startswith("$(", self.at)):
                self._piece(inner, quoted=False)
            else:
                self.at += 1
        self.is_whole = False
        return self.text[start:]


def _is_escaped(text: str, start: int, at: int) -> bool:
    before = at
    while before > start and text[before - 1] == "\\":
        before -= 1
    return (at - before) % 2 == 1


def _ansi_c_character(found: re.Match[str]) -> str:
    hexadecimal, unicode, octal, letter = found.groups()
    if letter is not None:
        return ANSI_C_LETTERS.get(letter, letter if letter in "\\'\"?" else found[0])
    return chr(int(octal, 8) % 256 if octal else int(hexadecimal or unicode, 16))


@dataclass
class _Draft:
    words: list[Word] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    appends: list[str] = field(default_factory=list)
    here_texts: list[str] = field(default_factory=list)
    targets: list[Word] = field(default_factory=list)

    def redirect(self, operator: str, target: Word) -> None:
        kind = operator.lstrip("0123456789&")
        kept = {">": self.writes, ">|": self.writes, ">&": self.writes, ">>": self.appends, "<<<": self.here_texts}
        kept.get(kind, []).append(target.text)
        self.targets.append(target)

    def command(self) -> Command:
        scripts = tuple(script for word in (*self.words, *self.targets) for script in word.scripts)
        return Command(tuple(self.words), tuple(self.writes), tuple(self.appends), tuple(self.here_texts), scripts)


@dataclass
class _Reading:
    """The pipelines read so far.

    `groups` holds where each open bracket began, `closed` where the last closed one did, `cases` counts open `case`s.
    """

    pipelines: list[list[_Draft]] = field(default_factory=lambda: [[_Draft()]])
    groups: list[int] = field(default_factory=list)
    closed: int = 0
    cases: int = 0

    @property
    def current(self) -> _Draft:
        return self.pipelines[-1][-1]

    def feed(self, body: str) -> None:
        """Give a here-document to the last command that has begun: the line end has closed it."""
        drafts = (draft for pipeline in reversed(self.pipelines) for draft in reversed(pipeline))
        begun = next((draft for draft in drafts if draft.words or draft.targets), self.current)
        begun.here_texts.append(body)

    def add(self, word: Word) -> None:
        """Add a word to the current command, or begin the next one after `{`, `}`, `function NAME {` or `case X in`."""
        words = self.current.words
        first = words[0].text if words and words[0].is_bare else ""
        if word.is_bare and word.text in ("{", "}") and (not words or (first == "function" and len(words) > 1)):
            self.separate(word.text)
            return
        words.append(word)
        if first == "case" and word.text == "in":
            self.cases += 1
            self.separate(";")
        elif word.is_bare and word.text == "esac" and len(words) == 1:
            self.cases = max(0, self.cases - 1)

    def separate(self, operator: str) -> None:
        """Begin the next command of the pipeline after `|`, else the next pipeline; a piped group is one pipeline."""
        if operator == ")" and self.cases and not self.groups:  # closes the pattern of a `case`, no command
            self.current.words.clear()
            return
        is_empty = not self.current.words and not self.current.targets
        if operator in ("|", "|&"):
            if is_empty and len(self.pipelines[-1]) == 1:
                group = [draft for pipeline in self.pipelines[self.closed : -1] for draft in pipeline]
                self.pipelines[self.closed :] = [group]
            self.pipelines[-1].append(_Draft())
        elif not is_empty or (len(self.pipelines[-1]) > 1 and operator != "\n"):
            self.pipelines.append([_Draft()])
        if operator in "({":
            self.groups.append(len(self.pipelines) - 1)
        elif operator in ")}":
            self.closed = self.groups.pop() if self.groups else 0


def read(text: str) -> Script:
    """Parse any text as shell; an open quote, bracket, redirection or here-document makes `is_whole` false."""
    scanner, reading = _Scanner(text), _Reading()
    redirection = ""
    for token in scanner.tokens():
        if isinstance(token, Word) and redirection == HERE_DOCUMENT:
            reading.feed(token.text)
            redirection = ""
        elif isinstance(token, Word) and redirection:
            reading.current.redirect(redirection, token)
            if redirection.lstrip("0123456789").rstrip("-") == "<<":
                scanner.here_ends.append(token.text)
            redirection = ""
        elif isinstance(token, Word):
            reading.add(token)
        elif token == HERE_DOCUMENT or REDIRECTION.fullmatch(token):
            redirection = token
        else:
            reading.separate(token)
    finished = [tuple(one.command() for one in each if one.words or one.targets) for each in reading.pipelines]
    return Script(tuple(one for one in finished if one), scanner.is_whole and not redirection, scanner.has_comment)
