"""Tests the script that mounts a cluster's shared directory: nothing but that file system will do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "clusters" / "mount-shared.sh"
SOURCE = "fs-1.example:/"
# `sudo`, `mount` and `findmnt` of a machine on which FOUND is mounted, and MOUNTS is what the next `mount` mounts there
PROGRAMS = {
    "sudo": '#!/bin/sh\nexec "$@"\n',
    "mount": '#!/bin/sh\n[ -n "$MOUNTS" ] || exit 32\necho "$MOUNTS" > "$FOUND"\n',
    "findmnt": '#!/bin/sh\n[ -s "$FOUND" ] && cat "$FOUND"\n',
}


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    for name, lines in PROGRAMS.items():
        (tmp_path / name).write_text(lines)
        (tmp_path / name).chmod(0o700)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "FOUND": str(tmp_path / "found"), "MOUNTS": f"{SOURCE}   nfs4"}


def ran(machine: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    words = [str(SCRIPT), SOURCE, str(directory)]
    return subprocess.run(words, env=machine, text=True, capture_output=True, check=False)


def test_it_mounts_once_and_makes_the_directories_of_records(machine: dict[str, str], tmp_path: Path) -> None:
    for _ in range(2):
        done = ran(machine, tmp_path / "shared")
        assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'shared'} is {SOURCE}\n"), done.stderr
        machine["MOUNTS"] = ""  # another mount would fail
    names = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "shared").iterdir()}
    assert names == {"runs": 0o700, "mlartifacts": 0o700}
    assert list((tmp_path / "shared" / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("mounts", "said"),
    [
        ("", f"{SOURCE} must be mounted at"),
        ("/dev/sda1 ext4", f"must be {SOURCE} by NFS 4, but it is /dev/sda1 ext4"),
        (f"{SOURCE} nfs", f"must be {SOURCE} by NFS 4, but it is {SOURCE} nfs"),
        ("fs-2.example:/ nfs4", f"must be {SOURCE} by NFS 4, but it is fs-2.example:/ nfs4"),
    ],
)
def test_without_the_file_system_it_fails_and_writes_nothing(
    mounts: str, said: str, machine: dict[str, str], tmp_path: Path
) -> None:
    done = ran({**machine, "MOUNTS": mounts}, tmp_path / "shared")
    assert done.returncode == 6
    assert said in done.stderr and "\nhint: " in done.stderr and done.stderr.startswith("error: ")
    assert list((tmp_path / "shared").iterdir()) == []


def test_a_mount_that_reports_success_and_mounts_nothing_is_found(machine: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mount").write_text("#!/bin/sh\n")
    done = ran(machine, tmp_path / "shared")
    assert done.returncode == 6 and "but it is nothing" in done.stderr


def test_a_file_system_without_locks_is_found(machine: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "flock").write_text("#!/bin/sh\necho 'flock: No locks available' >&2\nexit 71\n")
    (tmp_path / "flock").chmod(0o700)
    done = ran(machine, tmp_path / "shared")
    assert done.returncode == 6 and "must take locks" in done.stderr
