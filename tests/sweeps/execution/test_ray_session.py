"""Tests that a Ray that does not start is an error with a hint, and that Ray's files keep no secret."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.execution import ray_session, ray_token
from trainables.errors import ExitCode, InfrastructureError

ROOT = Path(__file__).parents[3]
CANARY = "canary-of-a-test"
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN", "HF_TOKEN",
           "MLFLOW_TRACKING_PASSWORD", "WANDB_API_KEY")  # fmt: skip


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a directory with a path that is short enough for Ray's sockets, as its temporary directory."""
    with tempfile.TemporaryDirectory(prefix="ray") as name:
        monkeypatch.setenv("RAY_TMPDIR", name)
        yield Path(name)


@pytest.mark.parametrize(
    "error",
    [Exception("The current node timed out during startup."), RuntimeError("no raylet"), ConnectionError("refused"),
     ValueError("Invalid address format"), OSError("no space")],
)  # fmt: skip
@pytest.mark.parametrize("address", [None, "10.0.0.1:6379"])
def test_a_ray_that_does_not_start_is_said_with_a_hint(
    error: Exception, address: str | None, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray_session.ray, "init", init)
    monkeypatch.setattr(ray_session, "check_joining", lambda _: None)  # the cluster ends after it
    with pytest.raises(InfrastructureError, match=str(error).rstrip(".")) as caught, ray_session.ray_session(address):
        pass
    assert caught.value.exit_code == ExitCode.INFRASTRUCTURE
    assert (address or str(short)) in caught.value.message + (caught.value.hint or "")


def test_a_bug_while_ray_starts_stays_a_bug(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise TypeError("init() got an unexpected keyword argument")

    monkeypatch.setattr(ray_session.ray, "init", init)
    with pytest.raises(TypeError), ray_session.ray_session(None):
        pass


def test_rays_directory_is_for_this_user_only(short: Path) -> None:
    (short / f"ray-{os.getuid()}").mkdir(mode=0o777)
    directory = ray_session.private_directory()
    assert directory.parent.parent == short
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700


def test_a_directory_that_somebody_else_has_made_is_refused(short: Path, tmp_path: Path) -> None:
    (short / f"ray-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(InfrastructureError, match="must belong to this user") as caught:
        ray_session.private_directory()
    assert "RAY_TMPDIR" in (caught.value.hint or "")


def test_tune_gives_workers_no_environment_so_no_secret_and_no_second_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution import class_cache

    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})
    monkeypatch.setattr(class_cache, "DEFAULT_ENV_VARS", {"PL_DISABLE_FORK": "1"})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setattr(class_cache.ray, "remote", lambda **options: lambda _: options)
    planted: Any = class_cache._ActorClassCache().get(int)
    assert CANARY in str(planted), "Tune would copy it"
    ray_session.keep_secrets_from_tune()
    options: Any = class_cache._ActorClassCache().get(int)
    assert options == {"runtime_env": {"env_vars": {}}}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_file_of_a_sweep_or_of_its_ray_holds_a_secret(short: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweeps.stage4", "--only", "A1", "--steps", "2", "--eval-every", "2", "--force",
               "--storage", str(tmp_path / "runs"), "--tracking-uri", f"http://me:{CANARY}@127.0.0.1:9"]  # fmt: skip
    environment = {**os.environ, **dict.fromkeys(SECRETS, CANARY), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (tmp_path / "runs" / "stage4" / "study.json").exists(), done.stderr[-2000:]
    files = [path for root in (short, tmp_path) for path in root.rglob("*") if path.is_file()]
    assert any(path.name.startswith("worker-") for path in files)  # Ray's logs are among them
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    assert CANARY not in done.stdout + done.stderr


# What a launch on this machine opens: the addresses on which it and its children listen, and the mode of its token.
# It opens one port to everybody itself, which shows that such a port would be seen.
LISTENING = """
import json, os, socket, stat, sys
from pathlib import Path
from typing import Any
import psutil
import ray
from sweeps.execution import ray_session, ray_token

modes, init = [], ray.init
def watched(**options):
    modes.append(stat.S_IMODE(ray_token.token_file().stat().st_mode))
    return init(**options)
ray_session.ray.init = watched

@ray.remote(num_cpus=0)
class Worker:
    def ready(self):
        return True

planted = socket.create_server(("0.0.0.0", 0))
with ray_session.ray_session(None):
    worker = Worker.remote()
    assert ray.get(worker.ready.remote())
    own = psutil.Process()
    found = [
        (one.laddr.ip, one.laddr.port, process.name())
        for process in (own, *own.children(recursive=True))
        for one in process.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    ]
modes.append(stat.S_IMODE(ray_token.token_file().stat().st_mode))
print(json.dumps({"planted": planted.getsockname()[1], "found": found, "modes": modes}))
"""


@pytest.fixture(scope="module")
def opened() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="ray") as home:
        environment = {**os.environ, "HOME": home, "RAY_TMPDIR": home, "PYTHONPATH": str(ROOT)}
        environment.pop("RAY_AUTH_MODE", None)  # as a user starts it: Ray asks for a token
        command = ["sh", "-c", f"umask 022; exec {sys.executable} -"]
        done = subprocess.run(
            command, input=LISTENING, capture_output=True, text=True, env=environment, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        yield json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_launch_on_this_machine_listens_on_loopback_alone(opened: dict[str, Any]) -> None:
    beyond = [
        (port, name) for address, port, name in opened["found"] if address not in {"127.0.0.1", "::ffff:127.0.0.1"}
    ]
    assert [port for port, _ in beyond] == [opened["planted"]], beyond
    assert len(opened["found"]) > 5, "Ray's own ports are seen"


@pytest.mark.slow
def test_a_launch_makes_a_token_that_only_this_user_reads_before_ray_would(opened: dict[str, Any]) -> None:
    assert opened["modes"] == [0o600, 0o600]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (ray_token.MODE, ray_token.TOKEN, ray_token.TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_ray_opens_to_the_network_again_after_a_local_start() -> None:
    from ray._private import services

    before = services.get_node_ip_address()
    with ray_session.loopback_alone():
        assert services.get_node_ip_address() == "127.0.0.1"
    assert services.get_node_ip_address() == before


def test_a_token_that_others_can_read_is_closed_and_kept(home: Path) -> None:
    path = ray_token.token_file()
    path.parent.mkdir()
    path.write_text("0" * 64)
    path.chmod(0o644)
    ray_token.protect_token(makes_missing=True)
    assert (stat.S_IMODE(path.stat().st_mode), path.read_text()) == (0o600, "0" * 64)


def test_a_token_in_a_file_that_the_environment_names_is_closed_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = home / "token"
    named.write_text("1" * 64)
    named.chmod(0o640)
    monkeypatch.setenv(ray_token.TOKEN_PATH, str(named))
    ray_token.protect_token(makes_missing=True)
    assert stat.S_IMODE(named.stat().st_mode) == 0o600
    assert not (home / ".ray").exists()


@pytest.mark.parametrize(("mode", "makes_missing"), [("disabled", True), ("token", False)])
def test_no_token_is_made_where_ray_would_make_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, mode: str, makes_missing: bool
) -> None:
    monkeypatch.setenv(ray_token.MODE, mode)
    ray_token.protect_token(makes_missing)
    assert not (home / ".ray").exists()


def test_launches_that_begin_together_agree_on_one_token(home: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ray_token.protect_token, [True] * 32))
    files = list((home / ".ray").iterdir())
    assert [(path.name, len(path.read_text())) for path in files] == [("auth_token", 64)]
