"""Tests the doctor: every check fails once, by the fault it looks for."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeps import doctor
from sweeps.doctor import check_disk, check_libraries, check_nodes, check_python, check_store
from sweeps.execution.cluster import NodeReport, check_this_node, node_reports, versions
from trainables.errors import UserError
from trainables.selftest.machine import Check


# -------------------------------------------------------------------- python, libraries, disk
@pytest.mark.parametrize(("version", "level"), [((3, 10, 14), "fail"), ((3, 11, 0), "ok"), ((3, 14, 0), "ok")])
def test_an_old_python_fails(version: tuple[int, ...], level: str) -> None:
    assert check_python(version).level == level


def test_the_libraries_installed_here_fit() -> None:
    assert check_libraries().level == "ok"


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.1", "torch 0.1 is not >=2.10"), (None, "torch is not installed")],
)
def test_a_library_that_is_old_or_missing_fails(version: str | None, expected: str) -> None:
    def installed(name: str) -> str:
        if name != "torch":
            return metadata.version(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    check = check_libraries(installed)
    assert (check.level, check.found) == ("fail", expected)


def test_a_storage_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    storage, _ = check_disk(tmp_path / "file" / "runs")
    assert storage.level == "fail"
    assert "the storage must be writable" in storage.found
    assert "--storage" in storage.hint


@pytest.mark.parametrize(
    ("free", "used", "levels"),
    [
        (10**12, 95, ["ok", "ok"]),
        (10**9, 95, ["warn", "ok"]),
        (10**12, 96, ["ok", "warn"]),
        (10**6, 96, ["fail", "warn"]),
    ],
)
def test_a_full_disk_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, used: int, levels: list[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free, used=used, total=100))
    assert [check.level for check in check_disk(tmp_path)] == levels


# -------------------------------------------------------------------- MLflow
def test_a_database_is_tried_and_left_as_it_was(database: Path) -> None:
    before = database.read_bytes()
    assert check_store(f"sqlite:///{database}").level == "ok"
    assert database.read_bytes() == before
    fresh = database.with_name("fresh.db")
    assert "will be created" in check_store(f"sqlite:///{fresh}").found
    assert not fresh.exists()


def test_a_locked_database_fails(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SQLITE_SECONDS", 0.1)
    holder = sqlite3.connect(database)
    holder.execute("BEGIN EXCLUSIVE")
    check = check_store(f"sqlite:///{database}")
    holder.close()
    assert check.level == "fail"
    assert "database is locked" in check.found


def test_an_invalid_database_fails(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database " * 100)
    assert "file is not a database" in check_store(f"sqlite:///{tmp_path / 'text.db'}").found
    assert "No such file or directory" in check_store(f"sqlite:///{tmp_path / 'nowhere' / 'mlflow.db'}").found
    assert "must be a database or a server" in check_store("file:///tmp/mlruns").found


def test_a_server_that_is_down_fails_without_its_password() -> None:
    check = check_store("http://user:hunter2@127.0.0.1:9")
    assert check.level == "fail"
    assert "MLflow must accept runs" in check.found
    assert "hunter2" not in check.found


def test_a_store_behind_a_server_gets_a_run(database: Path) -> None:
    """The check of a server, run on a database."""
    doctor._try_server(f"sqlite:///{database}")
    with sqlite3.connect(database) as connection:
        [[status]] = connection.execute(
            "SELECT runs.status FROM runs JOIN experiments USING (experiment_id) WHERE experiments.name = ?",
            ["footprint-doctor"],
        )
    assert status == "FINISHED"


# -------------------------------------------------------------------- nodes
@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.execution.cluster.machine_checks", lambda: [Check("torch", "ok", "2.13")])


@pytest.mark.usefixtures("healthy")
def test_a_node_sees_what_the_driver_sees(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    (tmp_path / "train.jsonl").write_text("{}\n")
    sizes = {str(tmp_path / "train.jsonl"): 3, str(tmp_path): 0}
    view = check_this_node(tmp_path, "token", sizes)
    assert view.path_problems == ()
    assert view.machine == (Check("torch", "ok", "2.13"),)
    assert (tmp_path / f"token-{view.node}").exists()


@pytest.mark.usefixtures("healthy")
def test_a_node_with_files_of_its_own_says_so(tmp_path: Path) -> None:
    """The directory exists on another disk, without the driver's files."""
    (tmp_path / "train.jsonl").write_text("{}\n{}\n")
    view = check_this_node(tmp_path, "token", {str(tmp_path / "train.jsonl"): 3, str(tmp_path / "base"): 0})
    assert view.path_problems == (
        f"{tmp_path}/train.jsonl: it has 6 bytes instead of 3",
        f"{tmp_path}/base: it does not exist",
        f"{tmp_path}: it is not the directory that the driver uses",
    )


def view(node: str, **changes: object) -> NodeReport:
    return replace(
        NodeReport(node, {"python": "3.11", "footprint": "abc"}, (), (Check("torch", "ok", "2.13"),)), **changes
    )


@pytest.mark.parametrize(
    ("broken", "name", "expected"),
    [
        ({"versions": {"python": "3.12", "footprint": "abc"}}, "two: versions", "python 3.12 not 3.11"),
        ({"versions": {"python": "3.11"}}, "two: versions", "footprint None not abc"),
        ({"path_problems": ("/data/train.jsonl: it does not exist",)}, "two: files", "it does not exist"),
        ({"machine": (Check("base in nf4", "fail", "no gradient"),)}, "two: base in nf4", "no gradient"),
    ],
)
def test_a_node_that_differs_fails_by_name(broken: dict[str, object], name: str, expected: str) -> None:
    driver = {"python": "3.11", "footprint": "abc"}
    assert {one.level for one in check_nodes([view("one"), view("two")], driver)} == {"ok"}
    [failed] = [one for one in check_nodes([view("one"), view("two", **broken)], driver) if one.level == "fail"]
    assert failed.name == name
    assert expected in failed.found


def test_a_node_that_is_not_there_fails_and_the_hint_says_where_the_reason_stands() -> None:
    driver = {"python": "3.11", "footprint": "abc"}
    nodes = [view("one"), view("two")]
    assert {one.level for one in check_nodes(nodes, driver, expected=2)} == {"ok"}
    [failed] = [one for one in check_nodes(nodes, driver, expected=3) if one.level == "fail"]
    assert (failed.name, failed.found) == ("ray", "2 nodes: one, two, but 3 must be up")
    assert "stays away until the next `ray up`" in failed.hint and "`ray monitor cluster.yaml`" in failed.hint


@pytest.mark.slow
def test_every_node_of_a_real_ray_cluster_is_checked(tmp_path: Path) -> None:
    """Ray on this machine, with the quantizations trained in a process of the node."""
    (tmp_path / "train.jsonl").write_text("{}\n")
    [found] = node_reports(None, tmp_path, [tmp_path / "train.jsonl"])
    assert found.path_problems == ()
    assert found.versions == versions()
    assert {one.level for one in found.machine} <= {"ok", "warn"}
    assert len([one for one in found.machine if one.name.startswith("base in")]) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


def test_a_cluster_that_is_not_there_fails(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(UserError, match=r"a Ray cluster must answer at .* refused") as caught:
        node_reports(address, tmp_path, [])
    assert "ray status" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------- the command line
@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Call the doctor below a fresh directory, with one healthy node and no Ray."""

    def one_node(*_: object) -> list[NodeReport]:
        return [NodeReport("here", versions(), (), (Check("torch", "ok", "2.13"),))]

    def call(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["doctor", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            doctor.main()
        return int(exit_info.value.code or 0)

    monkeypatch.setattr("sweeps.execution.cluster.node_reports", one_node)
    monkeypatch.chdir(tmp_path)
    return call


def test_nothing_failed(asked: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert asked() == 0
    output = capsys.readouterr().out
    for name in ("python", "libraries", "storage", "mlflow", "ray", "files", "torch"):
        assert f"ok    {name} " in output
    assert output.endswith("nothing failed\n")


def test_failures_are_printed_with_hints_and_the_exit_code(
    asked: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_ray(*_: object) -> None:
        raise UserError("Ray must start and every node answer, but: no", "see the logs")

    monkeypatch.setattr("sweeps.execution.cluster.node_reports", no_ray)
    assert asked("--sees", "no.jsonl") == 1
    output = capsys.readouterr().out
    assert "fail  files " in output
    assert "fail  ray " in output
    assert "hint: see the logs" in output
    assert output.endswith("2 failed\n")


def test_ray_is_not_tried_where_nothing_can_be_written(
    asked: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert asked("--storage", "file/runs") == 1
    assert "warn  ray " in capsys.readouterr().out


def test_a_wrong_option_is_a_usage_error(asked: Callable[..., int]) -> None:
    assert asked("--adress", "auto") == 2


def test_help_answers_before_anything_heavy_is_loaded() -> None:
    script = "import sys, sweeps.doctor; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "ray", "mlflow", "transformers", "pandas"} & set(done.stdout.split())
