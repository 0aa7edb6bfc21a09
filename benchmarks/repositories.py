"""Reads files of git repositories at a commit, without a work tree."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import InfrastructureError, UserError, named, quoted


@dataclass(frozen=True)
class Repository:
    """A git directory, such as `DIR/.git` of a checkout or a bare repository."""

    directory: Path

    def git(self, *arguments: str) -> str:
        """Return the output of a git command.

        Raises:
            InfrastructureError: the command failed.
        """
        command = ["git", "--git-dir", str(self.directory), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 a fixed command
        if done.returncode:
            raise InfrastructureError(f"git must read {self.directory}, but: {done.stderr.strip()}")
        return done.stdout

    def file(self, path: str, commit: str = "HEAD") -> str:
        """Return the text of a file."""
        return self.git("show", f"{commit}:{path}")

    def python_files(self, folder: str) -> Iterator[str]:
        """Yield the texts of the Python files in `folder` at the newest commit."""
        for name in self.git("ls-tree", "-r", "--name-only", "HEAD", folder).splitlines():
            if name.endswith(".py"):
                yield self.file(name)


def repositories(words: Sequence[str], needed: Collection[str]) -> Mapping[str, Repository]:
    """Return the repositories that words of the form NAME=DIR give, one for each of the names `needed`.

    Raises:
        UserError: a word has another form, a name is missing or unknown, or a directory does not exist.
    """
    found = {}
    for word in words:
        name, separator, directory = word.partition("=")
        if not separator or name not in needed:
            raise UserError(
                f"a repository must be NAME=DIR, but got {quoted(word)}", f"NAME is one of {', '.join(needed)}"
            )
        if not Path(directory).is_dir():
            raise UserError(f"a git directory must exist, but {named(directory)} does not", f"clone {name} first")
        found[name] = Repository(Path(directory))
    missing = [name for name in needed if name not in found]
    if missing:
        raise UserError(f"every repository must be given, but {', '.join(missing)} is not", f"add {missing[0]}=DIR")
    return found
