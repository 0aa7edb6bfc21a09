"""Tests that a forked process does what the same module does as any process, and that a lost server costs time only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from trainables.data import scan
from trainables.mini import BASE_DIRECTORY, datasets
from trainables.preloaded import process
from trainables.preloaded.process import SERVER, VARIABLE, Forked, forks_safely, serving, started

pytestmark = pytest.mark.skipif(not forks_safely(), reason="nothing is forked on this machine")
SCAN, RELOAD = "trainables.data.scan", "trainables.selftest.reload"


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    with serving():
        yield Path(os.environ[VARIABLE])


def server_process(parent: int | None = None) -> psutil.Process:
    return next(one for one in psutil.Process(parent).children() if SERVER in one.cmdline())


def ask(module: str, request: str) -> tuple[str, str, int, int]:
    """Start a module, write a request; return its output, its log, its exit code, and its parent."""
    with tempfile.TemporaryFile("w+") as log:
        running = started(module, log)
        assert running.stdin and running.stdout
        parent = psutil.Process(running.pid).ppid()
        with running.stdin as asked:
            asked.write(request)
        with running.stdout as answer:
            printed = answer.read()
        code = running.wait()
        assert running.poll() == code and running.wait() == code
        log.seek(0)
        return printed, log.read(), code, parent


@pytest.mark.slow
def test_a_forked_scan_equals_one_in_a_process_of_its_own(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = datasets.write(tmp_path / "data", 0)
    given = (BASE_DIRECTORY, files.train, files.validation, files.ood)
    forked = scan.scan(*given)
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(process, "Forked", None)  # nothing may ask for it
    assert scan.scan(*given) == forked


def test_bad_input_has_the_same_message_and_exit_code(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = json.dumps(dict.fromkeys(("base", "train", "validation", "ood"), "/nowhere")) + "\n"
    requests = {"": "", "no request": "[]\n", "no files": missing}
    forked = {name: ask(SCAN, text) for name, text in requests.items()}
    assert {parent for *_, parent in forked.values()} == {server_process().pid}
    monkeypatch.delenv(VARIABLE)
    alone = {name: ask(SCAN, text) for name, text in requests.items()}
    assert {name: one[:3] for name, one in forked.items()} == {name: one[:3] for name, one in alone.items()}
    assert forked["no files"][2] == 2 and forked["no request"][2] == 2


def test_a_process_that_is_killed_is_told_apart_and_the_others_go_on(server: Path) -> None:
    with tempfile.TemporaryFile("w+") as log:
        victim, other = Forked(server, RELOAD, os.environ, log), Forked(server, RELOAD, os.environ, log)
        assert victim.poll() is None and other.poll() is None
        assert os.getsid(victim.pid) == victim.pid, "Ctrl-C is not for it"
        os.kill(victim.pid, signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL and other.poll() is None
        other.terminate()
        assert other.wait() == -signal.SIGTERM
        other.terminate()  # it has ended


def test_only_modules_of_the_list_are_forked(server: Path) -> None:
    with tempfile.TemporaryFile("w+") as log, pytest.raises(ValueError, match="invalid literal"):
        Forked(server, "os", os.environ, log)
    assert server_process().is_running()


def test_what_is_forked_sees_the_environment_and_directory_of_its_parent(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with tempfile.TemporaryFile("w+") as log:
        running = started(RELOAD, log)
        cwd, deadline = Path(f"/proc/{running.pid}/cwd"), time.monotonic() + 60.0
        while cwd.readlink() != tmp_path and time.monotonic() < deadline:
            time.sleep(0.05)
        assert cwd.readlink() == tmp_path
        running.terminate()
        running.wait()


def test_without_a_server_that_answers_the_module_starts_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    _, log, code, parent = ask(SCAN, "")
    assert parent == os.getpid() and code == 2 and "is internal" in log


LAUNCH = """
import os, sys, time
from trainables.preloaded.process import SERVER, VARIABLE, serving
with serving():
    print(os.environ[VARIABLE], flush=True)
    if "stays" in sys.argv:
        time.sleep(600)
print(VARIABLE in os.environ, os.path.exists(os.path.dirname(os.environ.get(VARIABLE, "/nowhere/at/all"))))
"""


@pytest.mark.parametrize("kills", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_server_ends_with_its_block_and_with_its_parent(kills: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    launch = subprocess.Popen([sys.executable, "-c", LAUNCH, *["stays"] * kills], stdout=subprocess.PIPE, text=True)
    assert launch.stdout
    path = launch.stdout.readline().strip()
    if kills:
        server = server_process(launch.pid)
        os.kill(launch.pid, signal.SIGKILL)
        psutil.wait_procs([server], timeout=120.0)
        assert not server.is_running()
    else:
        assert launch.stdout.readline() == "False False\n" and not Path(path).parent.exists()
    launch.wait()
