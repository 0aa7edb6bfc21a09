"""Reads the shell blocks of the documentation, and finds the parser of each command in them.

A block is a fence of `bash`. The line before it may be a comment: `<!-- run -->` (a test runs the block, in the order
of its page), `<!-- run: the experiment of get started -->` (after the blocks of that page, in the same directory), or
`<!-- not run here: REASON -->`. A fence of `text` after a block that is run shows lines of what it printed.
"""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer._click.core import Context

from trainables import command
from trainables.errors import UserError

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?^```bash\n(?P<text>.*?)^```\n(?:\n*^```text\n(?P<shown>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
OURS = ("sweeps", "trainables", "analysis", "benchmarks")
SEPARATORS = {"&&", "||", ";", "|", "&"}
REDIRECTIONS = {">", ">>", "<", "2>", "2>&1"}
INLINE = re.compile(r"`((?:footprint|analysis|python -m (?:sweeps|trainables|analysis|benchmarks)[\w.]*)(?:\s[^`]*)?)`")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Block:
    """A shell block: the page, its first line there, its text, the comment before it, and the output after it."""

    page: Path
    line: int
    text: str
    mark: str = ""
    shown: str = ""

    @property
    def is_run(self) -> bool:
        """True when a test runs the block."""
        return self.mark.partition(":")[0] == "run"

    @property
    def is_not_run(self) -> bool:
        """True when the page says why no test runs the block."""
        kind, _, reason = self.mark.partition(":")
        return kind == "not run here" and bool(reason.strip())

    def commands(self) -> Iterator[list[str]]:
        """Yield the words of each command; lines that end in a backslash are joined, comments left out."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words: list[str] = []
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
            lexer.whitespace_split, lexer.commenters = True, "#"
            for word in lexer:
                if word in SEPARATORS:
                    yield words
                    words = []
                else:
                    words.append(word)
            yield words


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """Return the shell blocks of a page."""
    text = page.read_text(encoding="utf-8") if text is None else text
    return [
        Block(page, text.count("\n", 0, found.start("text")), found["text"], found["mark"] or "", found["shown"] or "")
        for found in BLOCK.finditer(text)
    ]


def pages() -> list[Path]:
    """Return the pages that tell users what to type; the log and the changelog tell what was typed."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if page != ROOT / "docs" / "log.md"]


def problem_of(words: list[str]) -> str | None:
    """Return what is wrong with a command, None if it parses or is another program's.

    Every option must exist, have a value of its type, and each required one must be there.
    """
    while words and ASSIGNMENT.match(words[0]):
        words = words[1:]
    words = words[: next((at for at, word in enumerate(words) if word in REDIRECTIONS), len(words))]
    if words[:1] == ["make"]:
        return _target_problem(words[1:])
    try:
        app, rest = _app_of(words)
        return app and _parsed(typer.main.get_command(app), rest)
    except UserError as error:
        return error.message
    except ModuleNotFoundError as error:
        return str(error)


def _app_of(words: list[str]) -> tuple[typer.Typer | None, list[str]]:
    """Return the app that a command runs, None if it is another program's, and the words that the app is given."""
    from sweeps.cli.footprint import app_of_commands

    program = words[0].rpartition("/")[2] if words else ""
    if program == "footprint":
        return app_of_commands(), words[1:]
    if program == "analysis":
        return importlib.import_module("analysis.cli").app, words[1:]
    if program.startswith("python") and words[1:2] == ["-m"] and words[2].partition(".")[0] in OURS:
        if words[2].startswith("benchmarks") and not words[3:]:
            return None, []  # nothing to parse; tests/test_docs.py looks for the module, without importing torch
        return _app_of_module(words[2]), words[3:]
    return None, []


def _target_problem(words: list[str]) -> str | None:
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    unknown = [word for word in words if "=" not in word and word not in targets]
    return f"the Makefile has no target {unknown[0]}" if unknown else None


def _app_of_module(module: str) -> typer.Typer:
    """Return the app that `python -m` runs."""
    if module.startswith("sweeps."):
        from sweeps.cli.footprint import app_of_commands
        from sweeps.cli.studies import command_of_study
        from sweeps.execution.submission import studies

        if (name := module.removeprefix("sweeps.")) in studies():
            return command_of_study(name)
        if module == "sweeps":
            return app_of_commands()
    loaded = importlib.import_module(module)
    if hasattr(loaded, "__path__"):
        loaded = importlib.import_module(f"{module}.__main__")
    return command.as_app(getattr(loaded, "app", None) or loaded.main)


def _parsed(found: Any, words: list[str], parent: Any = None, name: str = "footprint") -> str | None:
    context = Context(found, info_name=name, parent=parent, **found.context_settings)
    try:
        values, rest, _ = found.make_parser(context).parse_args(list(words))
    except Exception as error:  # noqa: BLE001 whatever the parser says is the problem
        return f"{name}: {error}"
    if hasattr(found, "get_command"):
        if not rest:
            return None
        inner = found.get_command(context, rest[0])
        return f"{name} has no command {rest[0]}" if inner is None else _parsed(inner, rest[1:], context, rest[0])
    if "--help" in words:
        return None
    if not context.allow_interspersed_args:  # of `submit`: a study and its options follow the cluster
        given = [values[one.name] for one in found.params if one.param_type_name == "argument" and values[one.name]]
        return problem_of(["footprint", *given[1:2], *(word for several in given[2:] for word in several)])
    return _value_problem(found, values, rest, context, name)


def _value_problem(found: Any, values: dict[str, Any], rest: list[str], context: Any, name: str) -> str | None:
    for one in found.params:
        value = values.get(one.name)
        if value is None:
            if one.required:
                return f"{name}: {one.opts[0]} is missing"
            continue
        if isinstance(value, str) and not _is_placeholder(value):
            try:
                one.process_value(context, value)
            except Exception as error:  # noqa: BLE001
                if not re.search("does not exist|No such file", str(error)):
                    return f"{name}: {error}"
    takes = any(one.param_type_name == "argument" for one in found.params)
    return None if takes or not rest else f"{name}: unexpected {rest[0]}"


def _is_placeholder(value: str) -> bool:
    return "…" in value or value.isupper()


def inline_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each of our commands that a sentence names, without what stands for words of the reader's."""
    for found in INLINE.finditer(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        yield [word for word in shlex.split(" ".join(found[1].split())) if "…" not in word]
