"""Tests reading trials from MLflow, and that a reader does not change the store."""

from __future__ import annotations

import math
import shutil
import sqlite3
from pathlib import Path

import pytest

from analysis.mlflow_runs import read_experiment
from analysis.placements import placements_of
from trainables.errors import UserError

LAYERS = {"language_layers": 2, "vision_blocks": 4}


def test_a_trial_is_read_as_it_was_written(store):
    run_id = store.completed("C2-L2-V4", 0.95, 0.9, language_layers=2, vision_blocks=4, learning_rate=1e-4)
    experiment = read_experiment("stage4", store.uri)
    (trial,) = experiment.trials
    assert (trial.run_id, trial.arm, trial.verdict_kind, trial.best_step) == (run_id, "C2", "completed", "60")
    assert trial.parameters["learning_rate"] == 1e-4
    assert trial.parameters["language_layers"] == 2
    assert trial.best == {"irrelevant_pass": 0.95, "exact_match": 0.9}
    assert trial.last["adapter_parameters"] == 1e5
    assert experiment.newest_launch_run_id == store.launch_id


def test_labels_are_read_and_absent_ones_are_none(store):
    store.label(store.completed("C2", 0.95, 0.9, **LAYERS), criteria="minimum", degraded="gradient_spikes,handover")
    store.label(store.completed("C3", 0.95, 0.9, **LAYERS), overridden="coverage")
    labelled, forced = read_experiment("stage4", store.uri).trials
    assert (labelled.criteria, labelled.degraded) == ("minimum", ("gradient_spikes", "handover"))
    assert (labelled.overridden, forced.overridden) == ((), ("coverage",))
    assert (forced.criteria, forced.degraded) == (None, ())


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_number_that_the_store_cannot_keep_is_not_finite(store, objectives, broken):
    """SQL keeps NaN as 0 with a flag and infinity as 1.8e308: ranked naively, this trial wins or is merely poor."""
    store.completed("C2", 0.95, broken, **LAYERS)
    (placement,) = placements_of(read_experiment("stage4", store.uri), objectives)
    assert placement.seed_runs[0].state == "excluded"
    assert "`best/exact_match` must be finite" in placement.seed_runs[0].reason


def test_launches_are_merged_and_the_newest_run_of_a_trial_wins(store):
    store.trial("C2", LAYERS, "failed(OSError)", "disk full")
    store.completed("B1", 1.0, 0.3, language_layers=0, vision_blocks=2)
    second = store.launch(baseline="A0/0, A0/1")
    newest = store.completed("C2", 0.95, 0.9, **LAYERS)
    experiment = read_experiment("stage4", store.uri)
    assert [(one.name, one.verdict_kind) for one in experiment.trials] == [("B1", "completed"), ("C2", "completed")]
    assert experiment.trials[1].run_id == newest
    assert experiment.newest_launch_run_id == second
    assert experiment.baseline_ids == {"A0/0", "A0/1"}


def test_a_deleted_run_is_not_read(store):
    store.client.delete_run(store.completed("C2", 0.95, 0.9, **LAYERS))
    assert read_experiment("stage4", store.uri).trials == ()


def test_an_unknown_experiment_names_the_nearest(store):
    with pytest.raises(UserError) as caught:
        read_experiment("stage5", store.uri)
    assert "got `stage5`" in caught.value.message
    assert caught.value.hint == "did you mean `stage4`?"


def test_a_deleted_experiment_is_unknown(store):
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(UserError, match="got `stage4`"):
        read_experiment("stage4", store.uri)


def test_a_missing_store_is_not_created(tmp_path: Path):
    with pytest.raises(UserError, match="there is no file"):
        read_experiment("stage4", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_a_file_that_is_not_a_store_is_refused_and_unchanged(tmp_path: Path, content: bytes):
    path = tmp_path / "mlflow.db"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"must be an MLflow database"):
        read_experiment("stage4", f"sqlite:///{path}")
    assert path.read_bytes() == content


def test_a_store_of_another_version_is_refused_in_a_sentence(migrated_database: Path, tmp_path: Path):
    path = shutil.copy(migrated_database, tmp_path / "mlflow.db")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    with pytest.raises(UserError, match="must answer, but it reports"):
        read_experiment("stage4", f"sqlite:///{path}")


def test_the_error_on_an_unreachable_server_hides_its_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="must answer") as caught:
        read_experiment("stage4", "http://someone:opensesame@127.0.0.1:9/?token=opensesame2")
    assert "opensesame" not in str(caught.value)


def test_a_run_from_before_there_were_kinds_is_a_seed_of_one_that_has_the_usual_kind(store, objectives):
    """Without it a study that goes on in a newer version would count each seed as another placement."""
    usual = {"modules": "all", "language_indices": "[]", "vision_indices": "[]"}
    store.completed("C2-s0", 0.95, 0.9, **LAYERS, seed=0)
    store.completed("C2-s1", 0.95, 0.9, **LAYERS, seed=1, **usual)
    store.completed("C2-s2", 0.95, 0.9, **LAYERS, seed=2, **{**usual, "modules": "mlp"})
    placements = placements_of(read_experiment("stage4", store.uri), objectives)
    assert {one.label: len(one.seed_runs) for one in placements} == {"C2": 2, "C2 mlp": 1}
