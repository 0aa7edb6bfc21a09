"""Tests that an address at which no Ray cluster can be joined is an error with a hint, soon and without a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.execution import joining
from sweeps.execution.joining import address_to_join, check_joining
from trainables.errors import ExitCode, InfrastructureError

ROOT = Path(__file__).parents[3]
UNROUTABLE = "203.0.113.1:6379"  # RFC 5737 keeps 203.0.113.0/24 for examples
SECONDS = 20.0
CLUSTER = """
import logging, ray, sys
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, _temp_dir=sys.argv[1])
print("AT", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def closed_port() -> str:
    with socket.create_server(("", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """Yield the address of a server that accepts connections and says nothing."""
    with socket.create_server(("", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def problem(address: str) -> str:
    with pytest.raises(InfrastructureError) as caught:
        check_joining(address)
    assert caught.value.hint and "\n" not in caught.value.message
    return caught.value.message


def most_seconds() -> float:
    """Return how long an answer may take: 20 s, or more where a busy machine loads Ray slowly."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "from ray import tune"], check=True)
    return max(SECONDS, 14.0 + 4 * (time.monotonic() - begun))


# -------------------------------------------------------------------- which address
@pytest.mark.parametrize(
    ("address", "variable", "joined"),
    [
        (None, None, None), ("auto", None, "auto"), ("10.0.0.1:1", None, "10.0.0.1:1"), ("local", "10.0.0.2:2", None),
        (None, "10.0.0.2:2", "10.0.0.2:2"), ("auto", "10.0.0.2:2", "10.0.0.2:2"),
        ("10.0.0.1:1", "10.0.0.2:2", "10.0.0.1:1"),
        (None, "local", None), (None, "", None), ("auto", "", "auto"),
    ],
)  # fmt: skip
def test_the_address_is_the_one_that_ray_takes(address: str | None, variable: str | None, joined: str | None) -> None:
    environment = {} if variable is None else {"RAY_ADDRESS": variable}
    assert address_to_join(address, environment) == joined


@pytest.mark.parametrize("address", ["nonsense", "10.0.0.1", "10.0.0.1:", "10.0.0.1:port", "10.0.0.1:65536",
                                     "http://127.0.0.1:8265"])  # fmt: skip
def test_a_text_that_is_no_address_is_refused(address: str) -> None:
    *_, last = joining.join(address)
    assert last.step == "find" and last.reason
    error = joining._explained(last, "")
    assert error.message == f"the address of a Ray cluster must be `auto` or HOST:PORT, but it is `{address}`"


def test_a_password_in_an_address_is_not_shown() -> None:
    error = joining._explained(joining.JoinProgress("find", "http://me:hunter2@host", "no port"), "")
    assert "hunter2" not in str(error)


# -------------------------------------------------------------------- who answers
def test_a_closed_port(closed_port: str) -> None:
    message = problem(closed_port)
    assert closed_port.partition(":")[2] in message and message.endswith("Connection refused")


def test_a_host_without_an_address() -> None:
    *_, last = joining.join("no-such-host.invalid:6379")
    assert last.step == "connect" and last.reason


def test_a_server_that_never_answers(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "ANSWER_SECONDS", 3.0)
    begun = time.monotonic()
    message = problem(silent)
    assert "there is no answer within 3 s" in message or "no Ray runs on it" in message
    assert time.monotonic() - begun < most_seconds()


@pytest.mark.parametrize("source", ["import os; os._exit(7)", "import os; os.kill(os.getpid(), 6)", "1 / 0"])
def test_a_process_that_crashes(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert problem("127.0.0.1:1").startswith("Ray must load on this machine, but: the process that joins it ended")


def test_what_the_cluster_logs_of_a_wrong_token_is_understood() -> None:
    last = joining.JoinProgress("join", "10.0.0.1:6379", "there is no answer within 12 s")
    error = joining._explained(last, "Unauthenticated: RPC error: InvalidAuthToken: Authentication token is missing")
    assert "must accept this user's token" in error.message and "RAY_AUTH_MODE=token" in (error.hint or "")


# -------------------------------------------------------------------- with Ray
@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Yield the address of a cluster that asks for a token, and the home directory that has it."""
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "HOME": str(home), "RAY_AUTH_MODE": "token"}
    with (
        tempfile.TemporaryDirectory(prefix="ray") as short,  # Ray's sockets take no long path
        subprocess.Popen(
            [sys.executable, "-c", CLUSTER, short],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process,
    ):
        assert process.stdout is not None and process.stdin is not None
        yield next(line.split()[1] for line in iter(process.stdout.readline, "") if line.startswith("AT ")), home
        process.stdin.close()


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.slow
@pytest.mark.usefixtures("homeless")
def test_who_has_the_token_may_join(cluster: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    address, home = cluster
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    check_joining(address)


@pytest.mark.slow
@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RAY_AUTH_MODE": "token"}, "RAY_AUTH_MODE is token, so this user must have the cluster's token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere"}, "cannot be opened or is empty: /nowhere"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, "must accept this user's token, but refuses it"),
        ({}, "must accept this user's token, but refuses it"),
    ],
)
def test_who_lacks_the_token_is_told(
    environment: dict[str, str], expected: str, cluster: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    begun = time.monotonic()
    assert expected in problem(cluster[0])
    assert time.monotonic() - begun < most_seconds()


# -------------------------------------------------------------------- both command lines
WORDS = {"sweeps.stage4": ["--only", "A1", "--steps", "2", "--eval-every", "2", "--force"], "sweeps.doctor": []}
BEFORE_RAY = {"sweeps.stage4": "starting Ray", "sweeps.doctor": "ok    mlflow"}  # the last line before Ray is asked


def ran(module: str, address: str, directory: Path, **environment: str) -> tuple[int, str, float]:
    """Run a launch or the doctor; return its exit code, what it wrote, and its seconds after planning."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", module, "--address", address, *WORDS[module]],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(directory), **environment},
    ) as process:
        assert process.stdout is not None
        lines, begun = [], time.monotonic()
        for line in process.stdout:
            lines.append(line)
            if line.startswith(BEFORE_RAY[module]):
                begun = time.monotonic()
        ended = time.monotonic()
    return process.returncode, "".join(lines), ended - begun


@pytest.mark.slow
@pytest.mark.parametrize("module", WORDS)
@pytest.mark.parametrize("fault", ["closed port", "no answer", "unroutable", "no token"])
def test_a_launch_and_the_doctor_say_it_in_a_line(
    module: str, fault: str, closed_port: str, silent: str, cluster: tuple[str, Path], tmp_path: Path
) -> None:
    address = {"closed port": closed_port, "no answer": silent, "unroutable": UNROUTABLE}.get(fault, cluster[0])
    code, output, seconds = ran(module, address, tmp_path, RAY_AUTH_MODE="token" if fault == "no token" else "disabled")
    assert code == (ExitCode.CHECK_FAILED if module == "sweeps.doctor" else ExitCode.INFRASTRUCTURE), output
    assert "Traceback" not in output
    [line] = [line for line in output.splitlines() if line.startswith(("error: ", "fail  ray"))]
    assert ("have the cluster's token" in line) if fault == "no token" else ("must answer" in line), output
    assert "hint: " in output.partition(line)[2]
    assert seconds < most_seconds()
