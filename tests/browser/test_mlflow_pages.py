"""Tests in a real browser that MLflow's own pages, opened as printed, show what decides."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from trial_records import keep_best, running_record

from sweeps.tracking.tracker import Tracker, pages_of
from trainables.verdict import Verdict

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
DECIDING = ["tags.`verdict`", "metrics.`best/exact_match`", "metrics.`best/irrelevant_pass`"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a new store on loopback, until the end of these tests."""
    tmp_path = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, database = f"http://127.0.0.1:{port}", f"sqlite:///{tmp_path}/mlflow.db"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", database, "--artifacts-destination", (tmp_path / "artifacts").as_uri(),
    ]  # fmt: skip
    with (tmp_path / "server.log").open("wb") as log:
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # seven processes less
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, env=environment)
    try:
        _wait_for(address)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):  # noqa: S310 loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError("the server did not start within 180 s")


@pytest.fixture(scope="module")
def experiment(server: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """Copy three trials to the server; return the id of their experiment and those of their runs."""
    from mlflow import MlflowClient

    tmp_path = tmp_path_factory.mktemp("records")
    tracker = Tracker(server, "stage4", "How many LoRA modules, in which tower?")
    tracker.open_launch("python -m sweeps.stage4", {})
    for name, language, vision, has_best in (("A0", 0, 0, False), ("A1", 2, 0, True), ("C2", 2, 4, False)):
        record = running_record(tmp_path, name, language, vision, arm=name)
        if has_best:
            keep_best(record, 30)
        record.close(Verdict(kind="completed", step=60))
        tracker.sync(record)
    client = MlflowClient(server)
    found = client.get_experiment_by_name("stage4")
    assert found is not None
    runs = client.search_runs([found.experiment_id], "tags.`footprint.kind` = 'trial'")
    return found.experiment_id, [run.info.run_id for run in runs]


def columns(dom: str) -> list[str]:
    """Return the columns of MLflow's table of runs, in the order of their places on the page."""
    headers = re.findall(r'<div class="ag-header-cell [^>]*>', dom)
    placed = [(re.search(r"left: (\d+)px", one), re.search(r'col-id="([^"]*)"', one)) for one in headers]
    return [name for _, name in sorted((int(left[1]), name[1]) for left, name in placed if left and name)]


def test_the_printed_address_opens_the_trials_with_the_columns_that_decide(
    browser: Any, server: str, experiment: tuple[str, list[str]]
) -> None:
    [address] = pages_of("stage4", server)
    dom = browser.dom(address, width=2200)
    shown = [name for name in columns(dom) if "." in name and not name.startswith("attributes")]
    assert shown[: len(DECIDING)] == DECIDING
    assert {"metrics.`best/eval_loss`", "params.`language_layers`", "params.`vision_blocks`"} <= set(shown)
    assert not [name for name in shown if name.startswith(("metrics.`eval/", "metrics.`train/"))]
    assert "Footprint: what decides" in dom and "How many LoRA modules, in which tower?" in dom
    assert all(f">{name}<" in dom for name in ("A0", "A1", "C2")) and "launch-2" not in dom


def test_the_plain_page_of_the_experiment_does_not_show_them(
    browser: Any, server: str, experiment: tuple[str, list[str]]
) -> None:
    """Without this the test above could pass on MLflow's own defaults."""
    dom = browser.dom(f"{server}/#/experiments/{experiment[0]}/runs", width=2200)
    assert "launch-2" in dom and not set(DECIDING) & set(columns(dom))


def test_the_compare_page_begins_with_task_fit(browser: Any, server: str, experiment: tuple[str, list[str]]) -> None:
    number, runs = experiment
    listed = quote("[" + ",".join(f'"{run}"' for run in runs) + "]")
    dom = browser.dom(f'{server}/#/compare-runs?runs={listed}&experiments={quote(f"""["{number}"]""")}')
    assert "Comparing 3 Runs" in dom
    chosen = re.findall(r'select-selection-item-content">([^<]*)<', dom)
    assert "deciding/exact_match" in chosen and {"language_layers", "vision_blocks"} <= set(chosen), chosen


def test_the_models_page_lists_the_kept_adapters(browser: Any, server: str, experiment: tuple[str, list[str]]) -> None:
    dom = browser.dom(f"{server}/#/experiments/{experiment[0]}/models")
    assert ">A1<" in dom and ">C2<" not in dom and "Ready" in dom
