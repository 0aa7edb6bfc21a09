"""Notifies of a launch: posts to a webhook or runs a command when it ends, a trial fails, or an arm is admissible."""

from __future__ import annotations

import json
import os
import platform
import queue
import shlex
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

from rich.console import Console

from sweeps.execution.experiment import Experiment
from trainables.errors import Checkpointed, UserError, redacted
from trainables.failures import failure_of
from trainables.record import Measurement, Record, records_under

EventName = Literal["ended", "stopped", "failed", "trial failed", "first admissible"]
ANSWER_SECONDS, COMMAND_SECONDS, CLOSE_SECONDS = 10.0, 30.0, 60.0
RETRY_SECONDS = (1.0, 5.0)
TEXT_VARIABLE = "FOOTPRINT_TEXT"
FIT = "exact_match"
EXAMPLE = 'for example --notify https://hooks.example.org/… or --notify \'sh -c "notify-send \\"$FOOTPRINT_TEXT\\""\''


@dataclass(frozen=True)
class Notification:
    """What a launch tells: an event, in words that chat webhooks show (`text`), and where to look."""

    event: EventName
    text: str
    experiment: str
    directory: str
    node: str = field(default_factory=platform.node)
    trial: str | None = None


@dataclass(frozen=True)
class Target:
    """Where notifications go: to an address, or to a command that reads them; its text shows no secret."""

    url: str = ""
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" if self.url else f"command `{Path(self.command[0]).name}`"


def parse_target(text: str) -> Target | None:
    """Read `--notify`; None if it is empty.

    Raises:
        UserError: it is neither an address of a server nor a command on this machine. The value is not repeated.
    """
    if not text:
        return None
    if "://" in text:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError("--notify must be an http or https address with a host, but is another", EXAMPLE)
        return Target(url=text)
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UserError(f"--notify must be a command with closed quotes, but: {error}", EXAMPLE) from None
    if not words or shutil.which(words[0]) is None:
        raise UserError("--notify must be an address or a command of this machine, but its first word is neither",
                        EXAMPLE)  # fmt: skip
    return Target(command=words)


def notifier_for(text: str, console: Console) -> Notifier | None:
    """Return the notifier of `--notify`, which prints on `console` what it cannot deliver; None if it is empty.

    Raises:
        UserError: as `parse_target`.
    """
    target = parse_target(text)
    return Notifier(target, partial(console.print, highlight=False, markup=False, soft_wrap=True)) if target else None


class Notifier:
    """Sends notifications on a thread of its own: a slow receiver delays no trial, a dead one ends none."""

    def __init__(self, target: Target, say: Callable[[str], None]) -> None:
        self.target, self.say = target, say
        self._waiting: queue.SimpleQueue[Notification | None] = queue.SimpleQueue()
        self._sender: threading.Thread | None = None

    def send(self, notification: Notification) -> None:
        """Queue a notification; returns at once."""
        if self._sender is None:
            self._sender = threading.Thread(target=self._send_all, name="notifier", daemon=True)
            self._sender.start()
        self._waiting.put(notification)

    def close(self, timeout_seconds: float = CLOSE_SECONDS) -> None:
        """Wait until what is queued is delivered, or given up."""
        if self._sender is not None:
            self._waiting.put(None)
            self._sender.join(timeout_seconds)

    def _send_all(self) -> None:
        while (notification := self._waiting.get()) is not None:
            problem = ""
            for pause in (*RETRY_SECONDS, 0.0):
                problem = deliver(self.target, notification)
                if not problem:
                    break
                time.sleep(pause)
            if problem:
                self.say(f"`{notification.event}` was not delivered to {self.target}: {problem}")


def deliver(target: Target, notification: Notification) -> str:
    """Deliver a notification as JSON; return why it was not, empty if it was."""
    body = json.dumps(asdict(notification), ensure_ascii=False)
    return _post(target.url, body) if target.url else _run(target.command, body, notification.text)


def _post(url: str, body: str) -> str:
    import requests

    try:
        answer = requests.post(url, body.encode(), headers={"Content-Type": "application/json"}, timeout=ANSWER_SECONDS)
    except requests.RequestException as error:
        return type(error).__name__  # its text has the address
    return "" if answer.ok else f"it answered {answer.status_code}"


def _run(command: Sequence[str], body: str, text: str) -> str:
    environment = {**os.environ, TEXT_VARIABLE: text}
    try:
        done = subprocess.run(  # noqa: S603 the user's own command
            command, input=body, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    return "" if done.returncode == 0 else f"it exited with {done.returncode}"


# -------------------------------------------------------------------- what is told
class TrialAlerts:
    """Tells of each trial that fails, and of the first that is admissible and fits better than the base."""

    def __init__(self, notifier: Notifier, experiment: Experiment) -> None:
        """Read what an earlier launch has told, which is not told again."""
        self.notifier, self.experiment = notifier, experiment
        records = experiment.records()
        self.failed = {record.name for record in records if _is_failed(record)}
        self.has_admissible = any(self._gain(record) for record in records)

    def advanced(self, record: Record) -> None:
        """Tell what is new of a trial."""
        if record.name not in self.failed and _is_failed(record):
            self.failed.add(record.name)
            verdict = record.verdict()
            reason = f": {verdict.reason}" if verdict and verdict.reason else ""
            self._tell("trial failed", record, f"{verdict} @ step {verdict.step if verdict else 0}{reason}")
        if not self.has_admissible and (best := self._gain(record)) is not None:
            self.has_admissible = True
            fit = f"{best.metrics[FIT]:.0%} exact answers"
            self._tell("first admissible", record, f"step {best.step} meets the constraint with {fit}")

    def _gain(self, record: Record) -> Measurement | None:
        """Return the best eval of a trained trial that meets the constraint, if it fits better than the base."""
        try:
            spec, best = record.spec(), record.best()
            if spec.placement.is_baseline or best is None:
                return None
            base = self.experiment.record_of(spec.baseline()).evals()
        except UserError:  # a damaged record is told by what reads it next
            return None
        return best if base and best.metrics[FIT] > base[0].metrics[FIT] else None

    def _tell(self, event: EventName, record: Record, text: str) -> None:
        name = self.experiment.name
        full = f"{name}: {event}: {record.name}, {text}"
        self.notifier.send(Notification(event, full, name, str(self.experiment.directory), trial=record.name))


@dataclass(frozen=True)
class LaunchAlerts:
    """Tells how a launch ended, at the end of a block, and waits for what is queued."""

    notifier: Notifier | None
    experiment: Path

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Send the notification; the error goes on."""
        if self.notifier is not None:
            event, text = how_it_ended(error, records_under(self.experiment / "trials"))
            name = self.experiment.name
            self.notifier.send(Notification(event, f"{name}: {event}: {text}", name, str(self.experiment)))
            self.notifier.close()


def how_it_ended(error: BaseException | None, records: Sequence[Record]) -> tuple[EventName, str]:
    """Return the event that ends a launch, and its text: trials by verdict, or why it broke off."""
    trials = counted(records)
    if error is None:
        return "ended", trials
    if isinstance(error, Checkpointed | KeyboardInterrupt):
        return "stopped", trials
    failure = failure_of(error)
    reason = redacted(failure.message) if failure else f"a bug ({type(error).__name__})"
    return "failed", f"{reason}; {trials}"


def counted(records: Sequence[Record]) -> str:
    """Return how many trials ended how, as text."""
    kinds = Counter(_kind(record) for record in records)
    return f"{len(records)} trials, " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def _kind(record: Record) -> str:
    try:
        verdict = record.verdict()
    except UserError:
        return "damaged"
    return verdict.kind if verdict else "without a result"


def _is_failed(record: Record) -> bool:
    return _kind(record) in ("failed", "invalid", "infeasible")
