"""Tests that Ray and this project take every command in the headers of the clusters' files, and what it does."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest
import typer
from click.testing import CliRunner
from documented_commands import check, documented

ROOT = Path(__file__).parents[1]
SUBMIT = "ray job submit --no-wait -- "
OLD = 'cd ~/footprint "&&" python -m sweeps.stage4 --address auto'  # reported success and ran nothing


COMMANDS = documented("cluster.yaml")
OTHERS = ("clusters/aws.yaml", "clusters/gcp.yaml", "clusters/kuberay/cluster.yaml")


def test_the_header_has_the_commands_from_the_token_to_the_end() -> None:
    programs = [shlex.split(line.removeprefix("(umask 077; "))[:3] for line in COMMANDS]
    assert [" ".join(words[:2]) for words in programs] == [
        "ray get-auth-token", "ray up", "ray exec", "footprint submit", "ray exec", "ray attach", "ray dashboard",
        "python -m",
    ]  # fmt: skip
    assert programs[-1][2] == "sweeps.down"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("line", COMMANDS[1:], ids=lambda line: line[:40])
def test_a_command_of_the_header_is_taken(line: str) -> None:
    check(line)
    if SUBMIT in line:
        check(line.removesuffix("'") + " --resume'")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("file", OTHERS)
def test_the_commands_of_the_other_headers_are_taken(file: str) -> None:
    commands = documented(file)
    for line in commands:
        if not line.startswith("(umask 077; "):
            check(line.replace("$HOME", "~"))
    assert COMMANDS[0] in commands  # the token
    assert any("python -m sweeps.doctor --address auto" in line for line in commands)
    ends = f"python -m sweeps.down {file}" if "kuberay" not in file else "kubectl delete"
    assert commands[-1].startswith(ends)
    assert any(line.startswith(("footprint submit", "kubectl create --namespace")) for line in commands)
    assert {word for line in commands for word in shlex.split(line) if word.startswith("clusters/")} >= {file}


@pytest.mark.parametrize(
    "line",
    [
        f"ray exec cluster.yaml {shlex.quote(SUBMIT + OLD)}", "ray up --yess cluster.yaml",
        "ray attach cluster.yaml 5000", "ray exec cluster.yaml 'python -m sweeps.doctor --adress auto'",
        "python -m sweeps.down", "footprint submit cluster.yaml stage4 --storag x", "footprint submit cluster.yaml",
        f"ray exec cluster.yaml '{SUBMIT}python -m sweeps.stage4 --storag x'", "gcloud compute networks destroy x",
        "aws ec2 import-key-pair --key-nam x", "kubectl logs --follow --since 1h", "rsync a b",
        "kubectl exec service/x -- python -m sweeps.doctor --adress auto",
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(line: str) -> None:
    with pytest.raises((click.ClickException, typer.TyperException, LookupError)):
        check(line)


def test_the_token_is_only_for_its_user(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(COMMANDS[0], shell=True, env=environment, check=True, capture_output=True)  # noqa: S602 our own line
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_size >= 32 and stat.S_IMODE(token.stat().st_mode) == 0o600


# -------------------------------------------------------------------- what Ray makes of the words of a job
class Head(BaseHTTPRequestHandler):
    """The part of a head node's API that `ray job submit` asks, which records what it gets."""

    jobs: list[str] = []  # noqa: RUF012 one test after another reads it

    def do_GET(self) -> None:
        self._answer({"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""})

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.jobs.append(job["entrypoint"])
        self._answer({"job_id": "1", "submission_id": "1"})

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, value: dict[str, str]) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Head]]:
    Head.jobs.clear()
    with HTTPServer(("127.0.0.1", 0), Head) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        yield Head
        server.shutdown()
        thread.join()


def entrypoint(line: str, head: type[Head]) -> str:
    """Submit a job by the words of a shell's line, and return the line that the head would give to its shell."""
    from ray.scripts.scripts import cli

    done = CliRunner().invoke(cli, shlex.split(line)[1:])
    assert done.exit_code == 0, done.output
    return head.jobs[-1]


def as_job(line: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a job's line in the shell in which Ray runs it."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
                   "HOME": str(directory)}  # fmt: skip
    return subprocess.run(line, shell=True, env=environment, cwd=directory, text=True, capture_output=True, check=False)  # noqa: S602


@pytest.mark.slow
def test_the_job_of_the_header_plans_a_sweep(head: type[Head], tmp_path: Path) -> None:
    [line] = [shlex.split(line)[-1] for line in COMMANDS if SUBMIT in line]
    submitted = entrypoint(f"{line} --dry-run", head)
    assert submitted == f"{line.removeprefix(SUBMIT)} --dry-run"
    done = as_job(submitted, tmp_path)
    assert done.returncode == 0 and "dry run: nothing was written" in done.stdout, done.stdout + done.stderr
    assert list(tmp_path.glob("runs")) == []


def test_ray_quotes_every_word_so_that_a_shells_operators_reach_the_program(head: type[Head], tmp_path: Path) -> None:
    assert entrypoint(f"{SUBMIT}printf '%s,' '&&' '~' 'a b' '$HOME'", head) == "printf %s, '&&' '~' 'a b' '$HOME'"
    assert as_job(head.jobs[-1], tmp_path).stdout == "&&,~,a b,$HOME,"
    with_shell = entrypoint(f"{SUBMIT}sh -c 'cd ~ && pwd'", head)
    assert as_job(with_shell, tmp_path).stdout.strip() == str(tmp_path)
