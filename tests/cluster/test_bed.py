"""Runs the project on five hosts of one machine: `ray up`, sweeps as jobs under faults, `sweeps.down`; needs root.

The cluster is the one of `cluster.yaml` with its CHANGE lines filled in. All tests share one bed and its cluster, in
the order in which they stand here. docs/clusters.md says what they prove, and what they do not.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed import ADDRESSES, NODES, PACKAGES, Bed, bed, missing
from bed_desk import set_up_desk
from bed_host import HOME, SHARED
from bed_sweeps import (
    ALONE,
    DRIFT,
    MLFLOW,
    RUNS,
    STEPS,
    WORDS,
    Sweep,
    resume,
    submit,
    until,
    write_rows,
)

from trainables.errors import ExitCode
from trainables.lease import EPOCH, LEASE, LOCK, read_lease
from trainables.record import Record

LACKS = missing()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(LACKS), reason=f"NO CLUSTER IS TRIED: THIS MACHINE LACKS {LACKS} (as root: {PACKAGES})"),
]

SWEEP_SECONDS, NODES_SECONDS = 900.0, 300.0  # far more than two idle cores need
STATUS = f"RAY_AUTH_MODE=token {HOME}/footprint/.venv/bin/ray status"
# what Ray's agent on a node answers to somebody who wants to run a command there
AGENT = ("python3 -c 'import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], b\"{{}}\", {headers}))' "
         "http://{address}:52365/api/job_agent/jobs/ 2>&1 | tail -1")  # fmt: skip


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed")) as made:
        set_up_desk(made)
        rows = made.shared(f"{SHARED}/data")
        rows.mkdir()
        write_rows(rows)
        yield made


@pytest.fixture(scope="module")
def cluster(hosts: Bed) -> Bed:
    """The bed after the commands of cluster.yaml's first lines."""
    hosts.user("desk", "(umask 077; ray get-auth-token --generate)")
    hosts.user("desk", "ray up -y cluster.yaml", timeout=600)
    wait_for_nodes(hosts)
    return hosts


@pytest.fixture(scope="module")
def alone(hosts: Bed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """The results of the sweep on one machine alone, which is the desk."""
    hosts.user("desk", f"python -m sweeps.stage4 {WORDS} {ALONE} --experiment alone --storage {SHARED}/alone",
               timeout=SWEEP_SECONDS)  # fmt: skip
    return Sweep(hosts, "alone", f"{SHARED}/alone").results(tmp_path_factory.mktemp("alone"))


def wait_for_nodes(hosts: Bed, count: int = len(NODES)) -> None:
    def active() -> bool:
        shown = hosts.user("head", STATUS).partition("Active:")[2].partition("Pending:")[0]
        return f"{count} local.cluster.node" in shown

    until(active, f"{count} nodes under Active", NODES_SECONDS)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=SWEEP_SECONDS)
    assert process.returncode == code, output[-6000:]
    return output


def assert_alike(found: dict[str, dict[str, object]], expected: dict[str, dict[str, object]]) -> None:
    """Compare all but bytes, up to the order of sums."""
    assert found.keys() == expected.keys()
    for name, mine in found.items():
        theirs = expected[name]
        assert mine["verdict"] == theirs["verdict"], name
        measured, wanted = list(mine["metrics"]), list(theirs["metrics"])  # type: ignore[call-overload] lists
        assert [one[:2] for one in measured] == [one[:2] for one in wanted], name
        for (_, _, values), (_, _, others) in zip(measured, wanted, strict=True):
            assert values == pytest.approx(others, rel=DRIFT, abs=DRIFT), name


# -------------------------------------------------------------------- the cluster
def test_ray_up_raises_all_nodes_and_the_doctor_finds_them_fit(cluster: Bed) -> None:
    doctor = f"python -m sweeps.doctor --address auto --storage {RUNS} --expect-nodes {len(NODES)}"
    output = cluster.user("desk", f"ray exec cluster.yaml '{doctor}'")
    assert "nothing failed" in output
    for name in NODES:
        assert f"{name}: files" in output, "every node is checked"


def test_submit_refuses_a_missing_node_and_a_storage_that_is_not_shared(cluster: Bed) -> None:
    fewer = cluster.user(
        "desk", submit("refused", checks=f"--expect-nodes {len(NODES) + 1}"), code=ExitCode.INFRASTRUCTURE
    )
    assert f"{len(NODES) + 1} nodes must be up, but {len(NODES)} are: {ADDRESSES['head']} (head)" in fewer
    private = submit("refused", checks="").replace(RUNS, f"{HOME}/runs")
    output = cluster.user("desk", private, code=ExitCode.CHECK_FAILED)
    assert "the doctor checks every node" in output and "submitted" not in output
    assert output.count(": files") == len(NODES) and output.count("fail  w") == len(NODES) - 1, output


def test_a_sweep_that_the_desk_submits_equals_one_on_one_machine(
    cluster: Bed, alone: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    output = cluster.user("desk", submit("calm"), timeout=SWEEP_SECONDS)
    assert f"{len(NODES)} nodes: {ADDRESSES['head']} (head)" in output and "submitted calm-" in output
    assert "WebSocket" not in output, "Ray's own lines would stand among those of the sweep"
    assert f"C1        L2-V2     {STEPS}/{STEPS}" in output, "its log is followed to the end"
    assert f"starting {len(NODES)} engines" in output
    sweep = Sweep(cluster, "calm")
    assert_alike(sweep.results(tmp_path), alone)
    assert {name.partition("-")[0] for name in alone} == {"A0", "A1", "B1", "C1"}
    assert all(str(one["verdict"]) == "completed" for one in alone.values())
    shown = cluster.user("desk", f"ray exec cluster.yaml 'footprint list --storage {RUNS}'")
    assert "calm" in shown


# -------------------------------------------------------------------- faults
def test_a_raylet_killed_in_mid_sweep_changes_nothing(
    cluster: Bed, alone: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    process = cluster.begin("desk", submit("lost", ALONE))
    sweep = Sweep(cluster, "lost")
    home, host = until(lambda: sweep.training_on(("w1", "w2")), "a trial on a worker", SWEEP_SECONDS, process)
    [raylet] = cluster.processes(host, "raylet/raylet")
    raylet.kill()
    output = finish(process)
    assert "tried again: " in output, output
    assert sweep.results(tmp_path) == alone
    assert read_lease(home).epoch >= 1, "the trial was taken over"
    # Ray takes some 20 s to see that the node is lost, and lists it as active until then
    until(lambda: cluster.processes(host, "raylet/raylet"), "the raylet that the head starts again", NODES_SECONDS)
    wait_for_nodes(cluster)


def test_a_killed_driver_and_resume_change_nothing(
    cluster: Bed, alone: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    process = cluster.begin("desk", submit("resumed", ALONE))
    sweep = Sweep(cluster, "resumed")
    until(lambda: sweep.training_on(NODES), "a trial after its first eval", SWEEP_SECONDS, process)
    for driver in cluster.processes("head", "sweeps.stage4"):
        driver.kill()
    finish(process, ExitCode.INFRASTRUCTURE)
    until(lambda: not any(cluster.processes(name, "ray::TrialWorker") for name in NODES), "no orphan", 60)
    assert sweep.results(tmp_path / "before") != alone
    cluster.user("desk", resume("resumed", ALONE), timeout=SWEEP_SECONDS)
    assert sweep.results(tmp_path / "after") == alone


def test_an_engine_cut_off_from_the_network_cannot_touch_what_another_took_over(
    cluster: Bed, alone: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    process = cluster.begin("desk", submit("cut"))
    sweep = Sweep(cluster, "cut")
    home, host = until(lambda: sweep.training_on(("w1", "w2")), "a trial on a worker", SWEEP_SECONDS, process)
    late = cluster.processes(host, "ray::EngineActor")
    for engine in late:
        engine.send_signal(signal.SIGSTOP)  # so that it writes only after the takeover
    cluster.cut(host)
    try:
        until(lambda: read_lease(home).epoch, "the trial is taken over", SWEEP_SECONDS, process)
        before = written(home)
        for engine in late:
            engine.send_signal(signal.SIGCONT)
        until(lambda: written(home) != before, "the late writer writes", SWEEP_SECONDS)
    finally:
        cluster.mend(host)
    finish(process)
    assert (home / f"{EPOCH}1").is_dir()
    assert_alike(sweep.results(tmp_path), alone)
    wait_for_nodes(cluster)


def written(home: Path) -> dict[str, int]:
    """Return the files of the first attempt at a trial, by when they were written; leases belong to all attempts."""
    files = (
        path for path in home.rglob("*") if path.is_file() and not path.relative_to(home).parts[0].startswith(EPOCH)
    )
    return {str(path): path.stat().st_mtime_ns for path in files if path.name not in (LEASE, LOCK)}


def test_a_node_that_loses_the_storage_alone_costs_no_trial_for_good(
    cluster: Bed, alone: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    process = cluster.begin("desk", submit("dry"))
    sweep = Sweep(cluster, "dry")
    home, host = until(lambda: sweep.training_on(("w1", "w2")), "a trial on a worker", SWEEP_SECONDS, process)
    cluster.take_storage(host)
    try:
        output, _ = process.communicate(timeout=SWEEP_SECONDS)
    finally:
        cluster.return_storage(host)
    assert process.returncode in (ExitCode.DONE, ExitCode.TRIALS_FAILED), output[-6000:]
    if process.returncode:
        verdict = Record(home).verdict()
        assert verdict is None or verdict.kind == "failed", "nothing is said of the trial itself"
        cluster.user("desk", resume("dry"), timeout=SWEEP_SECONDS)
    assert_alike(sweep.results(tmp_path), alone)


# -------------------------------------------------------------------- strangers, and the end
def test_an_outsider_without_the_token_is_refused(cluster: Bed) -> None:
    token = cluster.user("desk", "cat ~/.ray/auth_token").strip()
    for name in NODES:
        post = AGENT.format(headers="dict()", address=ADDRESSES[name])
        assert "401" in cluster.user("outsider", post), f"the agent of {name} runs commands"
        key = AGENT.format(headers=f'{{\\"Authorization\\": \\"Bearer {token}\\"}}', address=ADDRESSES[name])
        assert "401" not in cluster.user("desk", key), "it is the token that is missing"
        ssh = f"ssh -o BatchMode=yes -o StrictHostKeyChecking=no {ADDRESSES[name]} true"
        assert "Permission denied" in cluster.user("outsider", ssh, code=255)
    ray = f"{HOME}/src/footprint/.venv/bin/ray"
    for mode in ("disabled", "token"):
        joined = f"RAY_AUTH_MODE={mode} timeout 60 {ray} start --address={ADDRESSES['head']}:6379; true"
        cluster.user("outsider", joined)
        assert ADDRESSES["outsider"] not in cluster.user("head", STATUS)
        assert not cluster.processes("outsider", "raylet/raylet")
    for server in (f"http://{ADDRESSES['head']}:8265", MLFLOW.replace("127.0.0.1", ADDRESSES["head"])):
        asked = f"python3 -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1])' {server} 2>&1 | tail -1"
        assert "Connection refused" in cluster.user("outsider", asked)


def test_down_leaves_nothing_running(cluster: Bed) -> None:
    assert all(cluster.processes(name, "ray") for name in NODES)
    output = cluster.user("desk", "python -m sweeps.down cluster.yaml")
    assert f"stopped on {len(NODES)} machines" in output
    deadline = time.monotonic() + 30  # sshd's own processes end with their connections
    while (left := [one for name in NODES for one in cluster.processes(name)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [one.info["cmdline"] for one in left] == []
