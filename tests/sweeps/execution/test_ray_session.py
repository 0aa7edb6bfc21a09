"""Tests that a Ray that does not start is an error with a hint, and that Ray's files keep no secret."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.execution import ray_session
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


def test_tune_copies_no_secret_into_the_environment_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution import class_cache

    names = {*class_cache.ENV_VARS_TO_PROPAGATE, "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", names)
    ray_session.keep_secrets_from_tune()
    assert names and not [name for name in names if name in SECRETS or name.startswith("AWS_")]


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
