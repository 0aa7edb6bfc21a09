"""Tests `footprint submit` against a real head of Ray with its job server, which asks for a token."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from installed_commands import ROOT, declared, install

from trainables.errors import ExitCode

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
CLUSTER = """
file_mounts: {{{checkout}/pyproject.toml: pyproject.toml}}
provider: {{type: local, head_ip: 127.0.0.1, worker_ips: []}}
head_start_ray_commands: ["export RAY_AUTH_MODE=token; ray start --head"]
"""
TOKEN = "0" * 32
SCRIPT = "import sys; sys.argv[0] = 'footprint'; from sweeps.cli.footprint import main; main()"
READY_SECONDS = 180.0


@dataclass(frozen=True)
class Head:
    """A head of Ray on loopback: its job server, a directory for records, and the environment of its user."""

    server: str
    root: Path
    environment: dict[str, str]

    def submit(self, *words: str, token: str = "") -> subprocess.Popen[str]:
        """Start `footprint submit` as its user would."""
        environment = {**self.environment, **({"RAY_AUTH_TOKEN": token} if token else {})}
        command = [sys.executable, "-c", SCRIPT, "submit", "--job-server", self.server, *words]
        return subprocess.Popen(
            command, cwd=self.root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def jobs(self, path: str = "") -> str:
        """Return what Ray's job server says of all jobs, or of one; empty while it does not answer."""
        asked = urllib.request.Request(f"{self.server}/api/jobs/{path}", headers={"Authorization": f"Bearer {TOKEN}"})  # noqa: S310
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310
                return answer.read().decode()
        except OSError:
            return ""

    def status(self, job: str) -> str:
        """Return the status of a job."""
        return json.loads(self.jobs(job))["status"]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def checkout_in(home: Path) -> None:
    """Make what `ray up` leaves on a head: the packages, and an environment with this interpreter's libraries."""
    for name in ("sweeps", "trainables", "analysis", "pyproject.toml"):
        (home / "footprint").mkdir(exist_ok=True)
        (home / "footprint" / name).symlink_to(ROOT / name)
    (home / "footprint" / ".venv").symlink_to(Path(sys.prefix))


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    root = Path(tempfile.mkdtemp(prefix="head-"))  # Ray's sockets need a short path
    checkout_in(root)
    install(root / "metadata", declared())
    (root / "token").write_text(TOKEN)
    (root / "cluster.yaml").write_text(CLUSTER.format(checkout=root / "footprint"))
    environment = {
        **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(root / "token"), "RAY_TMPDIR": str(root),
        "PYTHONPATH": os.pathsep.join((str(root / "metadata"), str(ROOT))), "MLFLOW_TRACKING_URI": f"sqlite:///{root}/m.db",
    }  # fmt: skip
    environment.pop("RAY_ADDRESS", None)
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port",
             "runtime-env-agent-port", "metrics-export-port", "ray-client-server-port")  # fmt: skip
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--dashboard-host=127.0.0.1",
        "--num-cpus=2", "--object-store-memory=100000000", f"--temp-dir={root / 'ray'}",
        "--min-worker-port=0", "--max-worker-port=0", *(f"--{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    with (root / "head.txt").open("w") as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)
    try:
        found = Head(f"http://127.0.0.1:{ports['dashboard-port']}", root, environment)
        wait_until_ready(found, process)
        yield found
    finally:
        for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            one.kill()
        process.wait()
        shutil.rmtree(root, ignore_errors=True)


def wait_until_ready(head: Head, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while head.jobs() != "[]":
        assert process.poll() is None and time.monotonic() < deadline, (head.root / "head.txt").read_text()[-2000:]
        time.sleep(1)


def job_id_in(text: str) -> str:
    return next(line.removeprefix("submitted ") for line in text.splitlines() if line.startswith("submitted "))


def test_the_doctor_passes_the_study_runs_and_its_code_is_returned(head: Head) -> None:
    runs = str(head.root / "runs")
    words = ("cluster.yaml", "stage4", "--only", "A1", "--dry-run", "--storage", runs)
    out, err = head.submit("--expect-nodes", "1", *words).communicate(timeout=600)
    assert out.startswith("1 nodes: ") and "(head)" in out.splitlines()[0], out + err
    assert "nothing failed" in out and "same storage and data as the driver" in out, out[-3000:] + err
    assert job_id_in(out).startswith("stage4-")
    assert "dry run: nothing was written" in out.partition("submitted ")[2], out[-3000:] + err
    assert head.status(job_id_in(out)) == "SUCCEEDED"


def test_the_code_of_a_refused_study_is_that_of_the_command(head: Head) -> None:
    words = ("cluster.yaml", "stage4", "--only", "Z9", "--dry-run", "--storage", str(head.root / "runs"))
    process = head.submit("--no-doctor", *words)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == ExitCode.BAD_INPUT and "error: " in out, out


def test_a_doctor_that_fails_stops_the_submission(head: Head) -> None:
    words = ("cluster.yaml", "stage4", "--train", "/nowhere/train.jsonl", "--storage", str(head.root / "runs"))
    process = head.submit(*words)
    out, err = process.communicate(timeout=600)
    assert process.returncode == ExitCode.CHECK_FAILED and "/nowhere/train.jsonl cannot be found" in out, out + err
    assert "submitted" not in out and "--no-doctor" in err


def test_ctrl_c_leaves_the_job_running(head: Head) -> None:
    words = ("cluster.yaml", "stage4", "--only", "A1", "--cohort", "1", "--storage", str(head.root / "runs"))
    process = head.submit("--no-doctor", *words)
    assert process.stdout is not None
    lines = []
    while not lines or "reading the base and the rows" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], "".join(lines)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    job = job_id_in("".join(lines))
    assert process.returncode == ExitCode.STOPPED and f"`{job}` goes on" in err
    assert head.status(job) == "RUNNING"
    time.sleep(5)  # and it stays so
    assert head.status(job) == "RUNNING"


def test_another_token_is_refused_before_anything_runs(head: Head) -> None:
    process = head.submit("cluster.yaml", "stage4", "--storage", str(head.root / "runs"), token="1" * 32)
    out, err = process.communicate(timeout=120)
    assert process.returncode == ExitCode.INFRASTRUCTURE and "must accept this machine's token" in err, out + err
    assert "1" * 32 not in out + err and "Traceback" not in err


def test_too_few_nodes_are_named(head: Head) -> None:
    words = ("cluster.yaml", "stage4", "--storage", str(head.root / "runs"))
    process = head.submit("--expect-nodes", "2", *words)
    _, err = process.communicate(timeout=120)
    assert process.returncode == ExitCode.INFRASTRUCTURE and "2 nodes must be up, but 1 are: " in err
    assert "stays away until the next `ray up`; `ray monitor cluster.yaml` shows why" in err


def test_without_ray_up_the_tunnel_says_so(head: Head) -> None:
    environment = {**head.environment, "HOME": str(head.root)}
    command = [sys.executable, "-c", SCRIPT, "submit", "cluster.yaml", "stage4", "--storage", "/mnt/runs"]
    done = subprocess.run(
        command, cwd=head.root, env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == ExitCode.INFRASTRUCTURE and "Traceback" not in done.stderr, done.stderr
    assert "must open a tunnel to the head" in done.stderr and "ray up cluster.yaml" in done.stderr
