"""What is submitted to a cluster, as words: a study, the doctor before it, and commands that watch it."""

from __future__ import annotations

import pkgutil
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

import sweeps
from sweeps.execution.cluster_file import ClusterFile
from trainables.errors import UserError, holds_password, named, nearest

FILES = ("--train", "--val", "--ood", "--test", "--ood-test")
# files beside the studies
LIBRARY = ("__main__", "doctor", "down", "explain", "finalists", "holdout", "job", "launch", "rescale", "study")


@dataclass(frozen=True)
class Submission:
    """A study to run on a cluster: its name, its words, its storage, and the id of its job."""

    cluster: ClusterFile
    study: str
    words: tuple[str, ...]
    storage: str
    job_id: str

    @property
    def entrypoint(self) -> str:
        """Return the command that the head runs, for its shell."""
        address = () if option(self.words, "--address") else ("--address", "auto")
        return self._python(f"sweeps.{self.study}", *address, *self.words)

    @property
    def doctor(self) -> str:
        """Return the command that checks every node first: storage, data, versions, and that it can train."""
        store = option(self.words, "--tracking-uri")
        tracking = ("--tracking-uri", store) if store and not holds_password(store) else ()
        sees = (word for file in files_in(self.words) for word in ("--sees", file))
        return self._python("sweeps.doctor", "--address", "auto", "--storage", self.storage, *tracking, *sees)

    def watching(self, server: str) -> Iterator[str]:
        """Yield the commands that watch the job, each with what it does; without `server` they run on the head."""
        address = f" --address {shlex.quote(server)}" if server else ""
        status = f".venv/bin/footprint status --storage {shlex.quote(self.storage)}"
        for command, purpose in (
            (f"ray job logs{address} --follow {self.job_id}", "follows its log"),
            (f"cd {shell_path(self.cluster.directory)} && {status}", "says what every trial does"),
            (f"ray job stop{address} {self.job_id}", "stops it; --resume goes on from the newest checkpoints"),
        ):
            words = command if server else shlex.join(["ray", "exec", str(self.cluster.path), command])
            yield f"{words}   # {purpose}"

    def _python(self, module: str, *words: str) -> str:
        python = f"cd {shell_path(self.cluster.directory)} && exec .venv/bin/python -m"
        return f"{python} {shlex.join([module, *words])}"


def submission(cluster: ClusterFile, study: str, words: Sequence[str], now: datetime) -> Submission:
    """Return what to submit.

    Raises:
        UserError: there is no such study, or the words name no storage that all nodes can share.
    """
    known = studies()
    if study not in known:
        hint = f"{nearest(study, known)} (options of `footprint submit` stand before the cluster's file)"
        raise UserError(f"a study must be one of Footprint's, but got `{named(study)}`", hint)
    storage = option(words, "--storage")
    if not storage or not PurePosixPath(storage).is_absolute():
        raise UserError(
            f"--storage must be a directory that all nodes share, by its absolute path, but got `{named(storage)}`",
            f"footprint submit {cluster.path} {study} --storage /mnt/shared/runs",
        )
    name = option(words, "--experiment") or study
    return Submission(cluster, study, tuple(words), storage, _job_id(name, now))


def _job_id(name: str, now: datetime) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}-{now:%Y%m%d-%H%M%S}"  # it is typed, and a part of an URL


def studies() -> list[str]:
    """Return the names of the studies, and of what else runs trials: the files of this package with a command line."""
    files = [one.name for one in pkgutil.iter_modules(sweeps.__path__) if not one.ispkg]
    return sorted(set(files) - set(LIBRARY))


def option(words: Sequence[str], flag: str) -> str:
    """Return the value of an option in the words of a command line; the last one counts, empty if there is none."""
    found = ""
    for number, word in enumerate(words):
        if word == flag and number + 1 < len(words):
            found = words[number + 1]
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def files_in(words: Sequence[str]) -> list[str]:
    """Return the files of rows in the words of a study's command line, and its base if it is a path."""
    values = [path for flag in FILES for path in option(words, flag).split(",") if path and ":" not in path]
    base = option(words, "--base")
    return [*values, *([base] if base.startswith(("/", ".", "~")) else [])]


def shell_path(path: PurePosixPath) -> str:
    """Return a path for a shell, which expands a leading `~` only where it is not quoted."""
    first, *rest = path.parts
    return f"~/{shlex.quote('/'.join(rest))}" if first == "~" and rest else shlex.quote(str(path))
