"""Tests MLflow's server on PostgreSQL: `MLFLOW_BACKEND_URI`, the project's tracker, and what analysis reads back."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
from mlflow_heads import environment_of_head, script
from trial_records import keep_best, running_record

from analysis.mlflow_runs import read_experiment
from sweeps.tracking.sync import sync_all
from trainables.record import Verdict

PRUNED = Verdict(kind="pruned", step=60, cause="irrelevant_pass", reason="42 % < 80 %", value=0.42, limit=0.8)


@pytest.fixture
def database() -> Iterator[str]:
    pytest.importorskip("psycopg2", reason="it is in requirements.lock: make test")
    binaries = postgres.programs()
    if binaries is None:
        pytest.skip(postgres.HINT)
    # the path of a Unix socket has at most 107 bytes, too few for pytest's directory
    with tempfile.TemporaryDirectory(prefix="pg-") as directory, postgres.running(Path(directory), binaries) as uri:
        yield uri


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_go_to_postgres_and_are_read_back(database: str, tmp_path: Path) -> None:
    import sqlalchemy

    stopped, whole = (running_record(tmp_path / "runs", name, language=n) for n, name in enumerate(("A1", "C2"), 1))
    keep_best(stopped, 30)
    stopped.close(PRUNED)
    whole.close(Verdict(kind="completed", step=60))
    with environment_of_head(tmp_path / "head") as environment:
        served = {**environment, "MLFLOW_BACKEND_URI": database}
        started = script(served, "start", "clusters/aws.yaml")
        log = tmp_path / "head" / "footprint" / "mlflow-server" / "log"
        assert started.returncode == 0, started.stderr + log.read_text()
        uri = f"http://127.0.0.1:{environment['MLFLOW_PORT']}"
        copied = sync_all(tmp_path / "runs" / "stage4", uri, "stage4", "how many layers?")
        found = read_experiment("stage4", uri)
        [adapter] = (tmp_path / "head" / "footprint" / "mlartifacts").rglob("adapter_model.safetensors")

    assert sorted(copied) == [stopped.name, whole.name]
    assert [one.name for one in found.trials] == ["A1", "C2"]
    first, second = found.trials
    assert (first.verdict_cause, first.verdict_limit) == ("irrelevant_pass", 0.8)
    assert second.trial_id == whole.spec().trial_id
    assert adapter.read_bytes() == b"weights"
    assert not (tmp_path / "head" / "footprint" / "mlflow.db").exists()
    with sqlalchemy.create_engine(database).connect() as connection:
        names = connection.execute(sqlalchemy.text("SELECT name FROM runs ORDER BY name")).scalars().all()
    assert [name for name in names if not name.startswith("launch-")] == ["A1", "C2"]


ROOT = Path(__file__).parents[2]
DOCUMENTED = [*(ROOT / "clusters").rglob("*.*"), ROOT / "docs" / "clusters.md"]


def test_the_documented_addresses_ask_for_the_driver_that_is_locked() -> None:
    """`postgresql://` alone asks for another one since SQLAlchemy 2.1."""
    import sqlalchemy

    found = {
        one for path in DOCUMENTED for one in re.findall(r"postgresql\S*://USER\S*/mlflow", path.read_text("utf-8"))
    }
    assert {sqlalchemy.make_url(one).get_dialect().driver for one in found} == {"psycopg2"}
    assert sqlalchemy.make_url("postgresql://USER/mlflow").get_dialect().driver != "psycopg2"  # a planted fault
    assert "\npsycopg2-binary==" in (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert 'postgres = ["psycopg2-binary' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
