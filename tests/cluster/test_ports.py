"""Tests which ports of a Ray head a stranger on its network can use; needs root, for a network of two namespaces.

The head is started by the command of `cluster.yaml`. The stranger has another network namespace and no token, and calls
every method of every port. `docs/security.md` says what these tests find.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("ip") is None,
        reason="NO PORT OF RAY IS TRIED FROM ANOTHER NETWORK NAMESPACE: THAT NEEDS `ip`, AND ROOT OR USER NAMESPACES",
    ),
]

IP = shutil.which("ip") or "ip"
ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
HEAD, STRANGER = "10.213.77.1", "10.213.77.2"
# what Ray answers without the token: that a process lives, what its methods are called, and who is connected to it
TOKENLESS = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/", "/grpc.channelz.v1.Channelz/",
             "GET /api/healthz", "GET /api/local_raylet_healthz")  # fmt: skip
REFUSALS = {401, 403}
# the processes by a part of their command line, as docs/security.md names them
PROCESSES = {"gcs_server": "GCS", "raylet": "raylet", "DashboardAgent": "dashboard agent",
             "RuntimeEnvAgent": "runtime env agent", "client.server": "client server", "monitor.py": "autoscaler",
             "dashboard.py": "dashboard", "Holder": "worker", "busy_driver.py": "driver"}  # fmt: skip
FIXED = (6379, 10001, 44217, 44227, 52365)  # the others are the kernel's choice, or from a range
METRICS = {"dashboard agent", "dashboard", "autoscaler"}

LISTENING = """
import json, psutil
sockets = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
print(json.dumps([[one.laddr.ip, one.laddr.port, " ".join(psutil.Process(one.pid).cmdline())] for one in sockets]))
"""


class Door(NamedTuple):
    """A port beyond loopback, and the process that listens there."""

    port: int
    process: str


@dataclass(frozen=True)
class Head:
    """A running head with a driver and an actor, in a namespace of its own."""

    namespace: str
    stranger: str
    home: Path
    mode: str

    @property
    def token(self) -> str:
        return (self.home / ".ray/auth_token").read_text()

    def listening(self) -> list[tuple[str, int, str]]:
        return [tuple(one) for one in json.loads(inside(self.namespace, [sys.executable, "-c", LISTENING]).stdout)]

    def doors(self) -> list[Door]:
        return [Door(port, process_of(line)) for address, port, line in self.listening() if not is_loopback(address)]

    def called(self, doors: list[Door], token: str = "", extent: str = "everything") -> dict[int, dict[str, Any]]:
        ports = ",".join(str(door.port) for door in doors)
        command = [sys.executable, str(HERE / "call_ports.py"), HEAD, ports, token, extent]
        # `localhost` of the stranger's environment gives no token away: HOME is empty
        answer = inside(self.stranger, command, HOME=str(self.home / "nobody"), RAY_AUTH_MODE="disabled")
        return {int(port): found for port, found in json.loads(answer.stdout).items()}


def is_loopback(address: str) -> bool:
    return address.removeprefix("::ffff:") in {"127.0.0.1", "::1"}


def process_of(line: str) -> str:
    program = line.partition(" --")[0]
    return next((name for part, name in PROCESSES.items() if part in program), f"unknown: {line[:120]}")


def inside(namespace: str, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([IP, "netns", "exec", namespace, *command], capture_output=True, text=True, timeout=400,
                          env={**os.environ, **environment}, check=False)  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
    return done


@contextmanager
def two_machines() -> Iterator[tuple[str, str]]:
    """Make two network namespaces with a cable between them; at the end, kill what still runs in them."""
    own = f"fp{secrets.token_hex(4)}"
    names = ends = (f"{own}a", f"{own}b")
    try:
        for name in names:
            subprocess.run([IP, "netns", "add", name], check=True)
        subprocess.run([IP, "link", "add", ends[0], "type", "veth", "peer", "name", ends[1]], check=True)
        for name, end, address in zip(names, ends, (HEAD, STRANGER), strict=True):
            subprocess.run([IP, "link", "set", end, "netns", name], check=True)
            subprocess.run([IP, "-n", name, "addr", "add", f"{address}/24", "dev", end], check=True)
            for up in ("lo", end):
                subprocess.run([IP, "-n", name, "link", "set", up, "up"], check=True)
        subprocess.run([IP, "-n", names[0], "route", "add", "default", "via", STRANGER], check=True)
        yield names
    finally:
        for name in names:
            pids = subprocess.run([IP, "netns", "pids", name], capture_output=True, text=True, check=False).stdout
            for pid in pids.split():
                os.kill(int(pid), signal.SIGKILL)
            subprocess.run([IP, "netns", "del", name], check=False)


@contextmanager
def head(mode: str) -> Iterator[Head]:
    """Start a head by the command of cluster.yaml, in an authentication mode, with a driver and an actor."""
    commands = yaml.safe_load((ROOT / "cluster.yaml").read_text())["head_start_ray_commands"]
    [command] = [one for one in commands if "ray start" in one]
    with two_machines() as (own, other), tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as name:
        home = Path(name)
        (home / "nobody").mkdir()
        start = command.replace("RAY_AUTH_MODE=token", f"RAY_AUTH_MODE={mode}")
        start = start.replace("--autoscaling-config=~/ray_bootstrap_config.yaml", "")
        start += f" --node-ip-address={HEAD} --temp-dir={home}/t --num-cpus=1"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        settings = {"HOME": str(home), "RAY_AUTH_MODE": mode, "PATH": path}
        inside(own, ["sh", "-c", "umask 077; ray get-auth-token --generate"], **settings)
        inside(own, ["bash", "-c", start], **settings)
        driver = subprocess.Popen(
            [IP, "netns", "exec", own, sys.executable, str(HERE / "busy_driver.py"), f"{HEAD}:6379"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings},
        )  # fmt: skip
        assert driver.stdout is not None
        assert any("ready" in line for line in driver.stdout)
        yield Head(own, other, home, mode)
        driver.kill()
        driver.communicate()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Head]:
    with head("token") as found:
        yield found


@pytest.fixture(scope="module")
def answers(guarded: Head) -> dict[Door, dict[str, Any]]:
    doors = guarded.doors()
    found = guarded.called(doors)
    return {door: found[door.port] for door in doors}


def usable(answer: dict[str, Any]) -> set[str]:
    """Return the methods and paths of a port that did something else than refuse, but for those of `TOKENLESS`."""
    methods = {one for code, paths in (answer["grpc"] or {}).items() for one in paths
               if code not in {"UNAUTHENTICATED", "UNIMPLEMENTED"}}  # fmt: skip
    paths = {path for path, status in (answer["http"] or {}).items() if status not in REFUSALS}
    return {one for one in methods | paths if not one.startswith(TOKENLESS)}


def gives_metrics(answer: dict[str, Any]) -> bool:
    return answer["http"] is not None and set(answer["http"].values()) <= {200, 405, 501} and bool(answer["http"])


def test_every_port_is_of_a_process_that_the_documentation_names(answers: dict[Door, dict[str, Any]]) -> None:
    assert {door.process for door in answers} == set(PROCESSES.values())
    assert all(answer["http"] or answer["grpc"] for answer in answers.values()), "each speaks HTTP or gRPC"
    table = [line.split(" | ") for line in (ROOT / "docs/security.md").read_text().splitlines() if line[:2] == "| "]
    ports = {name.removeprefix("| "): numbers for name, numbers, *_ in table}
    assert {name for name in ports if name in PROCESSES.values()} == set(PROCESSES.values())
    for port in FIXED:
        of = {door.process for door in answers if door.port == port}
        assert {name for name, numbers in ports.items() if str(port) in numbers} == of, port


def test_a_caller_without_the_token_can_use_no_port_but_those_with_metrics(answers: dict[Door, dict[str, Any]]) -> None:
    asked = {door: usable(answer) for door, answer in answers.items() if not gives_metrics(answer)}
    assert {door: found for door, found in asked.items() if found} == {}


def test_every_port_was_asked_for_what_it_has(answers: dict[Door, dict[str, Any]]) -> None:
    refused = {door.process: 0 for door in answers}
    for door, answer in answers.items():
        refused[door.process] += len((answer["grpc"] or {}).get("UNAUTHENTICATED", ()))
        refused[door.process] += sum(status in REFUSALS for status in (answer["http"] or {}).values())
    assert {name for name, count in refused.items() if count < 3} == {"dashboard", "autoscaler"}, "only metrics there"


def test_metrics_are_open_and_hold_neither_token_nor_environment(
    guarded: Head, answers: dict[Door, dict[str, Any]]
) -> None:
    doors = [door for door, answer in answers.items() if gives_metrics(answer)]
    assert {door.process for door in doors} == METRICS and len(doors) == len(METRICS)
    for door in doors:
        reading = f"import urllib.request as r; print(r.urlopen('http://{HEAD}:{door.port}/metrics').read().decode())"
        shown = inside(guarded.stranger, [sys.executable, "-c", reading]).stdout
        assert "# HELP" in shown and guarded.token not in shown and str(guarded.home) not in shown


def test_the_dashboard_listens_on_loopback(guarded: Head) -> None:
    assert [address for address, port, _ in guarded.listening() if port == 8265] == ["127.0.0.1"]


def test_the_token_opens_and_a_wrong_one_does_not(guarded: Head, answers: dict[Door, dict[str, Any]]) -> None:
    gcs = [door for door in answers if door.process == "GCS"]
    reads = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
    with_token = guarded.called(gcs, guarded.token, "reading")[gcs[0].port]["grpc"]
    assert reads in with_token["OK"], "so the refusals above are for the token's sake"
    wrong = guarded.called(gcs, "0" * 64, "reading")[gcs[0].port]["grpc"]
    assert reads in wrong["UNAUTHENTICATED"]


def test_without_token_mode_the_same_calls_find_open_ports() -> None:
    with head("disabled") as planted:
        doors = [door for door in planted.doors() if door.process in {"GCS", "raylet", "dashboard agent"}]
        found = planted.called(doors, extent="reading")
    used = {name: set().union(*(usable(found[door.port]) for door in doors if door.process == name))
            for name in ("GCS", "raylet")}  # fmt: skip
    assert "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo" in used["GCS"]
    assert "/ray.rpc.NodeManagerService/GetNodeStats" in used["raylet"]
    agent = [found[door.port]["http"] or {} for door in doors if door.process == "dashboard agent"]
    assert any(one.get("POST /api/job_agent/jobs/", 401) not in REFUSALS for one in agent), "it runs commands"
