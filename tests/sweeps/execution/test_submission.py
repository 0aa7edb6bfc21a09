"""Tests what `footprint submit` runs on the head, what it needs of the cluster's file, and what it refuses."""

from __future__ import annotations

import os
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest
from ended import Ended, ended_by
from installed_commands import ROOT, declared, install

from sweeps.cli import footprint
from sweeps.execution.cluster_file import ClusterFile, read_cluster_file
from sweeps.execution.job_server import EndedJob, check_nodes, check_token, exit_code_of
from sweeps.execution.submission import Submission, shell_path, studies, submission
from trainables.errors import ExitCode, InfrastructureError, UserError

NOW = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
CLUSTER = ClusterFile(Path("cluster.yaml"), PurePosixPath("~/footprint"), asks_token=True, nodes=3)
STORED = ("--storage", "/mnt/shared/runs")


@pytest.fixture(autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path_factory.mktemp("metadata"), declared()))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # restored after the test, whatever a command sets


def submit(*words: str) -> Ended:
    return ended_by(footprint.main, "footprint", "submit", *words)


def asked(*words: str, study: str = "stage4") -> Submission:
    return submission(CLUSTER, study, (*words, *STORED), NOW)


# -------------------------------------------------------------------- the cluster's file
def test_the_file_of_this_repository_says_all_that_is_needed() -> None:
    assert read_cluster_file(ROOT / "cluster.yaml") == ClusterFile(
        ROOT / "cluster.yaml", PurePosixPath("~/footprint"), asks_token=True, nodes=3
    )


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("provider: {type: local, head_ip: a, worker_ips: []}", 1),
        ("available_node_types: {head: {min_workers: 0}, gpu: {min_workers: 2, max_workers: 9}, spot: {}}", 3),
        ("provider: {type: aws}", 1),
    ],
)
def test_the_nodes_that_are_always_there_are_expected(tmp_path: Path, text: str, nodes: int) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"file_mounts: {{/opt/checkout/pyproject.toml: pyproject.toml}}\n{text}\n")
    found = read_cluster_file(path)
    assert (found.nodes, found.directory, found.asks_token) == (nodes, PurePosixPath("/opt/checkout"), False)


@pytest.mark.parametrize("text", ["a: 1", "file_mounts: {}", "file_mounts: [a]", "file_mounts: {~/x: y}", "- a", "{"])
def test_a_file_without_the_checkout_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    found = submit(str(tmp_path / "cluster.yaml"), "stage4", *STORED)
    assert found.exit_code == ExitCode.BAD_INPUT and found.stderr.startswith("error: ")


# -------------------------------------------------------------------- what the head runs
def test_the_entrypoint_is_one_command_for_a_shell_and_the_words_stay_whole() -> None:
    found = asked("--experiment", "two words", "--set", "a=1;rm -rf /")
    assert found.entrypoint == (
        "cd ~/footprint && exec .venv/bin/python -m sweeps.stage4 --address auto --experiment 'two words' "
        "--set 'a=1;rm -rf /' --storage /mnt/shared/runs"
    )
    assert found.job_id == "two-words-20260301-123005"
    assert asked(study="smoke").job_id == "smoke-20260301-123005"


def test_dash_runs_the_entrypoint_in_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "footprint" / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / "footprint" / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\npwd\nfor word in "$@"; do echo "$word"; done\nexit 3\n')
    python.chmod(0o755)
    found = asked("--experiment", "two words")
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        ["/bin/sh", "-c", found.entrypoint], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 3, "the code of the study is that of the job"
    assert done.stdout.splitlines() == [
        str(tmp_path / "footprint"), "-m", "sweeps.stage4", "--address", "auto", "--experiment", "two words", *STORED
    ]  # fmt: skip


def test_an_address_that_is_given_stays() -> None:
    assert "--address auto" not in asked("--address=10.0.0.1:6379").entrypoint


def test_the_doctor_sees_what_the_study_reads_and_no_password() -> None:
    words = ("--base", "/mnt/base", "--train=a.jsonl,b.jsonl", "--ood", "info.json:ood", "--val", "/mnt/val.jsonl")
    given = shlex.split(asked(*words, "--tracking-uri", "http://ann:secret@host:5000").doctor)
    assert given[given.index("-m") + 1 :] == [
        "sweeps.doctor", "--address", "auto", *STORED, "--sees", "a.jsonl", "--sees", "b.jsonl", "--sees",
        "/mnt/val.jsonl", "--sees", "/mnt/base"
    ]  # fmt: skip
    assert "--tracking-uri http://host:5000" in asked("--tracking-uri", "http://host:5000").doctor


@pytest.mark.parametrize(("server", "begin"), [("", "ray exec cluster.yaml '"), ("http://127.0.0.1:8265", "ray job")])
def test_the_watching_commands_name_the_job_and_the_storage(server: str, begin: str) -> None:
    follow, status, stop = asked().watching(server)
    assert follow.startswith(begin) and "--follow stage4-20260301-123005" in follow
    assert "footprint status --storage /mnt/shared/runs" in status and "ray job stop" in stop


@pytest.mark.parametrize(("path", "text"), [("~/a b", "~/'a b'"), ("~", "'~'"), ("/x y", "'/x y'"), ("~/a", "~/a")])
def test_a_tilde_is_left_to_the_shell(path: str, text: str) -> None:
    assert shell_path(PurePosixPath(path)) == text


# -------------------------------------------------------------------- what is refused before anything is spent
def test_every_file_with_trials_can_be_submitted() -> None:
    assert studies() == [
        "commands", "continuation", "coverage", "curriculum", "modules", "narrow", "quantization", "response", "search",
        "smoke", "stage4", "trial", "unfreeze",
    ], "a file beside the studies belongs in LIBRARY"  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stage5", *STORED), "did you mean `stage4`?"),
        (("--expect-nodes", "2", "stage4", *STORED), "stand before the cluster's file"),
        (("stage4",), "--storage must be a directory that all nodes share"),
        (("stage4", "--storage", "runs"), "by its absolute path"),
        ((), "Missing argument"),
    ],
)
def test_a_submission_that_cannot_run(words: tuple[str, ...], said: str) -> None:
    found = submit(str(ROOT / "cluster.yaml"), *words)
    assert found.exit_code == ExitCode.BAD_INPUT and said in found.stderr, found.output


def test_without_the_token_nothing_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    for content in (None, "\n"):
        if content is not None:
            (tmp_path / "token").write_text(content)
        with pytest.raises(UserError, match="asks for a token") as refused:
            check_token(CLUSTER)
        assert "ray get-auth-token --generate" in str(refused.value)
    (tmp_path / "token").write_text("secret\n")
    check_token(CLUSTER)
    assert os.environ["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize(
    ("server", "code"), [("ftp://x", ExitCode.BAD_INPUT), ("http://127.0.0.1:9", ExitCode.INFRASTRUCTURE)]
)
def test_a_job_server_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, code: ExitCode
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    (tmp_path / "token").write_text("secret")
    found = submit("--job-server", server, str(ROOT / "cluster.yaml"), "stage4", *STORED)
    assert found.exit_code == code and found.stderr.startswith("error: ") and "secret" not in found.output


def test_fewer_nodes_than_expected_are_refused_by_name() -> None:
    check_nodes(CLUSTER, ["a (head)", "b", "c"], 3)
    with pytest.raises(InfrastructureError, match=r"3 nodes must be up, but 2 are: a \(head\), b") as refused:
        check_nodes(CLUSTER, ["a (head)", "b"], 3)
    assert "Pending or Recent failures" in str(refused.value)


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (EndedJob("SUCCEEDED", 0), ExitCode.DONE), (EndedJob("FAILED", 3), ExitCode.TRIALS_FAILED),
        (EndedJob("FAILED", None), ExitCode.INFRASTRUCTURE), (EndedJob("STOPPED", None), ExitCode.STOPPED),
        (EndedJob("FAILED", -9), ExitCode.INFRASTRUCTURE), (EndedJob("STOPPED", -9), ExitCode.STOPPED),
    ],
)  # fmt: skip
def test_the_exit_code_is_that_of_the_study(ended: EndedJob, code: int) -> None:
    assert exit_code_of(ended) == code
