"""Tests `--notify` with a real HTTP server and real commands: what is told, once, and that no secret is printed."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from launches import begin
from rich.console import Console
from trial_records import keep_best, running_record

from sweeps.cli.printed_commands import launch_command
from sweeps.execution import notifier as notifying
from sweeps.execution.experiment import Experiment
from sweeps.execution.lease_holder import AlreadyRunning
from sweeps.execution.notifier import LaunchAlerts, Notification, Notifier, TrialAlerts, notifier_for, parse_target
from trainables.errors import Checkpointed, ExitCode, InfrastructureError, UserError
from trainables.io.files import write_json
from trainables.record import Measurement, Record
from trainables.verdict import Verdict

SECRET = "s3cret-t0ken"  # noqa: S105 planted
HELLO = Notification("ended", "stage4: ended: 3 trials", "stage4", "/runs/stage4", node="here")


@dataclass
class Receiver:
    """A webhook: what it received, and the codes that it answers first."""

    port: int = 0
    codes: list[int] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://ann:{SECRET}@127.0.0.1:{self.port}/hooks/{SECRET}?token={SECRET}"


@contextmanager
def receiving(receiver: Receiver) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.paths.append(self.path)
            code = receiver.codes.pop(0) if receiver.codes else 200
            if code == 200:
                receiver.bodies.append(json.loads(body))
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as found:
        yield found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifying, "RETRY_SECONDS", (0.01, 0.01))


def made(text: str) -> tuple[Notifier, io.StringIO]:
    out = io.StringIO()
    found = notifier_for(text, Console(file=out, width=200))
    assert found is not None
    return found, out


# -------------------------------------------------------------------- delivery
def test_a_webhook_receives_the_event_and_its_text(receiver: Receiver) -> None:
    notifier, out = made(receiver.url)
    notifier.send(HELLO)
    notifier.close()
    assert receiver.paths == [f"/hooks/{SECRET}?token={SECRET}"] and out.getvalue() == ""
    assert receiver.bodies == [
        {"event": "ended", "text": "stage4: ended: 3 trials", "experiment": "stage4", "directory": "/runs/stage4",
         "node": "here", "trial": None}
    ]  # fmt: skip


def test_a_webhook_that_fails_twice_gets_it_once(receiver: Receiver) -> None:
    receiver.codes = [500, 503]
    notifier, out = made(receiver.url)
    notifier.send(HELLO)
    notifier.close()
    assert len(receiver.paths) == 3 and len(receiver.bodies) == 1 and out.getvalue() == ""


@pytest.mark.parametrize("is_there", [True, False])
def test_what_is_not_delivered_is_said_without_the_secret(receiver: Receiver, is_there: bool) -> None:
    receiver.codes = [404] * 3
    url = receiver.url if is_there else f"http://ann:{SECRET}@127.0.0.1:9/{SECRET}"
    notifier, out = made(url)
    notifier.send(HELLO)
    notifier.close()
    reason = "it answered 404" if is_there else "ConnectionError"
    assert out.getvalue() == f"`ended` was not delivered to http://127.0.0.1: {reason}\n"
    assert SECRET not in out.getvalue()


def test_a_receiver_that_never_answers_delays_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(notifying, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        notifier, out = made(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        began = time.monotonic()
        notifier.send(HELLO)
        assert time.monotonic() - began < 0.1
        notifier.close()
    assert "ReadTimeout" in out.getvalue()


def test_a_command_reads_the_event_and_has_the_text_in_its_environment(tmp_path: Path) -> None:
    notifier, out = made(f"sh -c 'cat > {tmp_path}/body; echo \"$FOOTPRINT_TEXT\" > {tmp_path}/text'")
    notifier.send(HELLO)
    notifier.close()
    assert json.loads((tmp_path / "body").read_text())["event"] == "ended" and out.getvalue() == ""
    assert (tmp_path / "text").read_text() == "stage4: ended: 3 trials\n"


def test_a_command_that_fails_is_said_by_its_name_alone() -> None:
    notifier, out = made(f"sh -c 'echo {SECRET}; exit 4'")
    notifier.send(HELLO)
    notifier.close()
    assert out.getvalue() == "`ended` was not delivered to command `sh`: it exited with 4\n"


@pytest.mark.parametrize(
    "text", [f"ftp://host/{SECRET}", f"http:///{SECRET}", f"no-such-command {SECRET}", f"sh '{SECRET}", "''"]
)
def test_a_target_that_cannot_be_is_refused_before_a_launch_and_not_repeated(text: str) -> None:
    with pytest.raises(UserError, match="--notify must be") as refused:
        parse_target(text)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "words", [("--notify", f"https://h/{SECRET}", "--seeds", "3"), (f"--notify=https://h/{SECRET}", "--seeds", "3")]
)
def test_the_command_that_mlflow_shows_has_no_secret(words: tuple[str, ...]) -> None:
    shown = launch_command("stage4", words)
    assert SECRET not in shown and "--notify" in shown and shown.endswith("--seeds 3")


# -------------------------------------------------------------------- what is told
BASE, GAIN = {"eval_loss": 1.0, "exact_match": 0.3}, {"eval_loss": 0.2, "exact_match": 0.5}


@pytest.fixture
def trial(tmp_path: Path) -> Record:
    """A trial that trains; the baseline of its experiment has been measured."""
    record = running_record(tmp_path, steps=())
    baseline = Experiment(tmp_path / "stage4").record_of(record.spec().baseline())
    baseline.create(record.spec().baseline())
    baseline.append(Measurement("eval", 0, BASE))
    baseline.close(Verdict(kind="completed", step=0))
    return record


def with_best(record: Record, metrics: dict[str, float]) -> Record:
    keep_best(record, 30)
    with record.saving("best") as directory:
        write_json(directory / "provenance.json", {"step": 30, "metrics": metrics})
    return record


def told(receiver: Receiver, experiment: Path, happens: Callable[[TrialAlerts], None]) -> list[str]:
    notifier, _ = made(receiver.url)
    happens(TrialAlerts(notifier, Experiment(experiment)))
    notifier.close()
    return [str(one["text"]) for one in receiver.bodies]


def test_the_first_admissible_arm_is_told_once_and_not_again_by_the_next_launch(
    receiver: Receiver, trial: Record, tmp_path: Path
) -> None:
    other = running_record(tmp_path, "E1", 4, 0, arm="E1", steps=())

    def happens(alerts: TrialAlerts) -> None:
        alerts.advanced(with_best(trial, BASE))  # no gain over the base
        for record in (with_best(trial, GAIN), trial, with_best(other, GAIN)):
            alerts.advanced(record)

    said = [f"stage4: first admissible: {trial.name}, step 30 meets the constraint with 50% exact answers"]
    assert told(receiver, tmp_path / "stage4", happens) == said
    assert told(receiver, tmp_path / "stage4", lambda alerts: alerts.advanced(other)) == said, "nothing more"


@pytest.mark.parametrize("kind", ["failed", "invalid", "infeasible", "pruned", "completed"])
def test_a_trial_that_fails_is_told_once_and_a_result_is_not(
    receiver: Receiver, trial: Record, tmp_path: Path, kind: str
) -> None:
    def happens(alerts: TrialAlerts) -> None:
        trial.close(Verdict.model_validate({"kind": kind, "step": 3, "cause": "OSError", "reason": "the cable is out"}))
        alerts.advanced(trial)
        alerts.advanced(trial)

    text = f"stage4: trial failed: {trial.name}, {kind}(OSError) @ step 3: the cable is out"
    assert told(receiver, tmp_path / "stage4", happens) == [text] * (kind in ("failed", "invalid", "infeasible"))


def test_a_damaged_record_tells_nothing_and_ends_nothing(receiver: Receiver, trial: Record, tmp_path: Path) -> None:
    (trial.directory / "verdict.json").write_text("{")
    with_best(trial, GAIN)
    (trial.directory / "spec.json").write_text("{")
    assert told(receiver, tmp_path / "stage4", lambda alerts: alerts.advanced(trial)) == []


@pytest.mark.parametrize(
    ("error", "event", "part"),
    [
        (None, "ended", "2 trials, 1 completed, 1 without a result"),
        (Checkpointed(), "stopped", "2 trials"),
        (KeyboardInterrupt(), "stopped", "2 trials"),
        (InfrastructureError("the storage must have free space, but it is full"), "failed", "it is full; 2 trials"),
        (AlreadyRunning("process 7 runs `stage4`"), "failed", "process 7 runs `stage4`; 2 trials"),
        (ZeroDivisionError(SECRET), "failed", "a bug (ZeroDivisionError); 2 trials"),
    ],
)
def test_the_end_of_a_launch_is_told_with_its_reason(
    receiver: Receiver, trial: Record, tmp_path: Path, error: BaseException | None, event: str, part: str
) -> None:
    notifier, _ = made(receiver.url)
    ended = False
    try:
        with LaunchAlerts(notifier, tmp_path / "stage4"):
            if error is not None:
                raise error
            ended = True
    except BaseException as raised:  # noqa: BLE001 which must be the same
        assert raised is error
    assert ended == (error is None) and trial.verdict() is None
    [body] = receiver.bodies
    assert body["event"] == event and part in str(body["text"]) and SECRET not in str(body)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_launch_tells_how_it_ended_and_writes_the_secret_nowhere(receiver: Receiver, tmp_path: Path) -> None:
    words = (
        "--only",
        "A1",
        "--steps",
        "6",
        "--eval-every",
        "3",
        "--force",
        "--storage",
        "runs",
        "--notify",
        receiver.url,
    )
    process = begin(tmp_path, "stage4", *words)
    out, _ = process.communicate(timeout=800)
    assert process.returncode == ExitCode.DONE, out
    assert [one["event"] for one in receiver.bodies][-1] == "ended", receiver.bodies
    assert "stage4: ended: 2 trials, 2 completed" in str(receiver.bodies[-1]["text"])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "mlflow.db" in files and SECRET not in out
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
