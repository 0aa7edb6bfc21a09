"""Tests `sweeps.down` with an `ssh` that runs its command in a home directory of each machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ended import ended_by

from sweeps import down
from trainables.errors import ExitCode, UserError

SSH = """#!/bin/sh
for word; do before=$last; last=$word; done
echo "$@" >> $MACHINES/calls
machine=${before#*@}
[ -d "$MACHINES/$machine" ] || { echo "ssh: connect to host $machine port 22: No route to host" >&2; exit 255; }
HOME=$MACHINES/$machine exec sh -c "$last"
"""
RAY_STOP = "#!/bin/sh\nkill $(cat $HOME/agent.pid)\n"
MLFLOW = "#!/bin/sh\necho $1 >> $HOME/mlflow\n"
PGREP = '#!/bin/sh\nkill -0 "$(cat $HOME/agent.pid)" 2>/dev/null\n'
CLUSTER = """cluster_name: bed
provider: {type: local, head_ip: 192.0.2.10, worker_ips: [192.0.2.11, 192.0.2.12]}
auth: {ssh_user: nobody, ssh_private_key: ~/.ssh/footprint}
"""


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with a machine in each folder, whose `ray stop` ends the process that it names."""
    for address in ("192.0.2.10", "192.0.2.11", "192.0.2.12"):
        for name, text in (("footprint/.venv/bin/ray", RAY_STOP), ("footprint/clusters/mlflow-server.sh", MLFLOW)):
            path = tmp_path / address / name
            path.parent.mkdir(parents=True)
            path.write_text(text)
            path.chmod(0o700)
    (tmp_path / "bin").mkdir()
    for name, text in (("ssh", SSH), ("pgrep", PGREP), ("sleep", "#!/bin/sh\n")):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o700)
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("MACHINES", str(tmp_path))
    ran = subprocess.run

    def without_ray(words: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        if words[1:3] != ["-m", "ray.scripts.scripts"]:
            return ran(words, **options)  # type: ignore[call-overload]
        (tmp_path / "ray-words").write_text(" ".join(words[3:]))
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(down.subprocess, "run", without_ray)
    return tmp_path


def agent(machines: Path, address: str) -> subprocess.Popen[bytes]:
    """Start what `ray down` leaves on a worker."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (machines / address / "agent.pid").write_text(str(process.pid))
    return process


def test_it_stops_mlflow_on_the_head_and_what_is_left_on_every_worker(machines: Path) -> None:
    left = [agent(machines, address) for address in ("192.0.2.11", "192.0.2.12")]
    waiting = [threading.Thread(target=process.wait) for process in left]  # an ended child stays until it is waited for
    for one in waiting:
        one.start()
    found = ended_by(down.main, "down", machines / "cluster.yaml")
    assert (found.exit_code, found.stdout) == (0, "stopped on 3 machines\n"), found.output
    for one in waiting:
        one.join(timeout=5)
    assert [process.returncode for process in left] == [-15, -15]
    assert (machines / "192.0.2.10" / "mlflow").read_text() == "stop\n"
    assert not (machines / "192.0.2.11" / "mlflow").exists()
    assert (machines / "ray-words").read_text() == f"down --yes {machines / 'cluster.yaml'}"
    assert f"-i {Path('~/.ssh/footprint').expanduser()} " in (machines / "calls").read_text()


def test_a_machine_that_does_not_answer_is_named_and_the_others_are_stopped(machines: Path) -> None:
    (machines / "192.0.2.11").rename(machines / "off")
    process = agent(machines, "192.0.2.12")
    waiting = threading.Thread(target=process.wait)
    waiting.start()
    found = ended_by(down.main, "down", machines / "cluster.yaml")
    waiting.join(timeout=5)
    assert found.exit_code == ExitCode.INFRASTRUCTURE
    assert "192.0.2.11: ssh: connect to host" in found.stderr and "192.0.2.12" not in found.stderr
    assert process.returncode == -15


def test_a_process_that_stays_is_reported(machines: Path) -> None:
    (machines / "192.0.2.11" / "footprint/.venv/bin/ray").write_text("#!/bin/sh\n")
    (machines / "192.0.2.12" / "agent.pid").write_text("")
    process = agent(machines, "192.0.2.11")
    found = ended_by(down.main, "down", machines / "cluster.yaml")
    process.kill()
    process.wait()
    assert found.exit_code == ExitCode.INFRASTRUCTURE and "192.0.2.11: processes of Ray remain" in found.stderr


def test_a_cloud_is_left_to_ray(machines: Path) -> None:
    (machines / "aws.yaml").write_text("cluster_name: a\nprovider: {type: aws, region: eu-central-1}\n")
    found = ended_by(down.main, "down", machines / "aws.yaml")
    assert found.exit_code == 0 and not (machines / "calls").exists()


@pytest.mark.parametrize("text", ["cluster_name: x\n", "provider: {type: local}\nauth: {}\n"])
def test_a_file_that_is_no_cluster(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match="must have"):
        down.machines_of(tmp_path / "c.yaml")
