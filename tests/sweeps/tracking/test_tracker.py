"""Tests what MLflow holds after a sync, read through MLflow and from its database."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from trial_records import EVAL_METRICS, keep_best, measure

from sweeps.tracking.mlflow_fields import params_of
from sweeps.tracking.sync import StoreUnreachable, sync_all
from sweeps.tracking.tracker import Tracker, pages_of
from sweeps.tracking.view import view_address
from trainables.errors import UserError, redacted
from trainables.io.files import FileDamaged, write_json
from trainables.mlflow_store import checked_uri, default_tracking_uri
from trainables.record import Record
from trainables.verdict import Verdict

PRUNED = Verdict(
    kind="pruned",
    step=60,
    cause="irrelevant_pass",
    reason="42 % < 80 % for 2 evals (baseline 96 %)",
    value=0.42,
    limit=0.8,
)
COMPLETED = Verdict(kind="completed", step=60)


def opened(database: Path) -> Tracker:
    tracker = Tracker(f"sqlite:///{database}", "stage4")
    tracker.open_launch("python -m sweeps.stage4", {"footprint.baseline": "abc"})
    return tracker


def restarted(database: Path) -> Tracker:
    """Return a tracker that has to ask MLflow what it has."""
    return Tracker(f"sqlite:///{database}", "stage4")


def runs(database: Path, kind: str = "trial") -> list[Run]:
    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("stage4")
    assert experiment is not None
    condition = f"tags.`footprint.kind` = '{kind}'"
    return list(client.search_runs([experiment.experiment_id], condition, order_by=["attributes.run_name"]))


def rows(database: Path, with_ids: bool = True) -> dict[str, list[tuple]]:
    """Every row a sync can write; without ids, times of launches and places, what a rebuilt store must repeat."""
    selections = {
        "runs": "SELECT name, status, start_time, end_time FROM runs",
        "metrics": "SELECT r.name, m.key, m.value, m.step, m.timestamp FROM metrics m JOIN runs r USING (run_uuid)",
        "params": "SELECT r.name, p.key, p.value FROM params p JOIN runs r USING (run_uuid)",
        "tags": "SELECT r.name, t.key, t.value FROM tags t JOIN runs r USING (run_uuid)",
        "inputs": "SELECT r.name, d.name, d.digest FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id "
        "JOIN runs r ON r.run_uuid = i.destination_id",
    }
    with closing(sqlite3.connect(database)) as connection:
        found = {table: sorted(connection.execute(query), key=str) for table, query in selections.items()}
    if with_ids:
        return found
    kept = {
        t: [r for r in rs if not r[0].startswith("launch-") and "parentRunId" not in r[1]] for t, rs in found.items()
    }
    return {**kept, "runs": [row for row in found["runs"] if not row[0].startswith("launch-")]}


def files(tracking_uri: str, run_id: str, folder: str | None = None) -> Iterator[str]:
    for entry in MlflowClient(tracking_uri).list_artifacts(run_id, folder):
        yield from files(tracking_uri, run_id, entry.path) if entry.is_dir else [entry.path]


def test_a_pruned_trial_is_a_killed_child_with_its_reason_and_everything_measured(database, make_record):
    record = make_record()
    keep_best(record, 30)
    record.close(PRUNED)
    opened(database).sync(record)

    (launch,), (run,) = runs(database, "launch"), runs(database)
    spec, tags, metrics = record.spec(), run.data.tags, run.data.metrics
    assert launch.info.run_name.startswith("launch-20") and launch.data.tags["footprint.baseline"] == "abc"
    assert (run.info.run_name, run.info.status) == ("C2-L2-V2", "KILLED")
    assert tags["mlflow.parentRunId"] == launch.info.run_id
    assert (tags["trial.id"], tags["trial.name"], tags["trial.arm"]) == (spec.trial_id, "C2-L2-V2", "C2")
    assert (tags["verdict"], tags["verdict.kind"]) == ("pruned(irrelevant_pass)", "pruned")
    assert (tags["verdict.cause"], tags["verdict.reason"]) == ("irrelevant_pass", PRUNED.reason)
    assert float(tags["verdict.limit"]) == 0.8
    assert (tags["record"], tags["best.step"]) == (str(record.directory), "30")
    assert run.data.params == params_of(spec)
    assert metrics["deciding/exact_match"] == 1.06 and metrics["eval/eval_loss"] == 0.06
    assert metrics["train/step_loss"] == 1 / 60 and metrics["best/eval_loss"] == 0.03
    assert not [key for key in metrics if key.startswith("final/")], "the curves have these values"
    contexts = {one.dataset.name: (one.dataset.digest, one.tags[0].value) for one in run.inputs.dataset_inputs}
    assert contexts["ood"] == ("ood" * 12, "out-of-distribution") and set(contexts) == {"train", "validation", "ood"}
    assert set(files(f"sqlite:///{database}", run.info.run_id)) == {
        "config/spec.json",
        "battery.json",
        "metrics.jsonl",
        "placement.json",
        "samples/step-60.jsonl",
    }


def test_what_decides_comes_first_in_the_order_of_logging_and_of_names(database, make_record):
    record = make_record()
    keep_best(record, 30)
    record.close(COMPLETED)
    opened(database).sync(record)
    keys = list(runs(database)[0].data.metrics)
    shared = [key for key in keys if not key.startswith("best/")]
    assert shared[:2] == ["deciding/exact_match", "deciding/irrelevant_pass"] == sorted(shared)[:2]


def test_what_mlflow_has_is_asked_once_for_all_runs_and_again_only_after_an_outage(database, make_record, monkeypatch):
    records = [make_record(f"C{number}", 2, number) for number in range(1, 6)]
    first = opened(database)
    for record in records:
        record.close(COMPLETED)
        first.sync(record)
    asked, search = [], MlflowClient.search_runs

    def counted(self, ids, condition="", **named):
        asked.append(condition)
        return search(self, ids, condition, **named)

    monkeypatch.setattr(MlflowClient, "search_runs", counted)
    tracker = restarted(database)
    for record in records:
        tracker.sync(record)
    assert asked == ["tags.`footprint.kind` = 'trial'"]
    records[0].reopen()
    with monkeypatch.context() as away, pytest.raises(MlflowException):
        away.setattr(MlflowClient, "update_run", unreachable)
        tracker.sync(records[0])
    for record in records:
        tracker.sync(record)
    assert asked[1:] == [f"tags.`trial.id` = '{records[0].spec().trial_id}'"]
    assert [run.info.status for run in runs(database)] == ["RUNNING", *["FINISHED"] * 4]


def unreachable(*_arguments, **_named):
    raise MlflowException("gone")


def test_a_baseline_has_its_eval_as_best_and_no_best_step(database, make_record):
    record = make_record("A0", 0, 0, steps=(30,))
    record.close(COMPLETED)
    opened(database).sync(record)
    (run,) = runs(database)
    best = {key: value for key, value in run.data.metrics.items() if key.startswith("best/")}
    assert best == {"best/exact_match": 1.03, "best/irrelevant_pass": 2.03, "best/eval_loss": 0.03}
    assert "best.step" not in run.data.tags


def test_the_best_adapter_is_a_logged_model_and_another_one_replaces_it(database, make_record):
    record, tracker = make_record(), opened(database)
    keep_best(record, 30)
    record.close(COMPLETED)
    tracker.sync(record)
    client = MlflowClient(f"sqlite:///{database}")
    (run,) = runs(database)

    def models() -> list:
        return list(client.search_logged_models([run.info.experiment_id]))

    (model,) = models()
    assert (model.name, str(model.status), model.source_run_id) == ("C2-L2-V2", "READY", run.info.run_id)
    assert (model.model_type, model.tags["footprint.step"]) == ("PEFT adapter", "30")
    kept = {one.path for one in client.list_logged_model_artifacts(model.model_id)}
    assert kept == {"adapter_model.safetensors", "manifest.json", "provenance.json"}, "no optimizer"
    client.set_tag(run.info.run_id, "verdict", "lost")
    restarted(database).sync(record)
    assert [one.model_id for one in models()] == [model.model_id], "the same adapter is logged once"
    with record.saving("best") as directory:
        write_json(directory / "provenance.json", {"step": 60, "metrics": {"eval_loss": 0.06}})
        (directory / "adapter_model.safetensors").write_bytes(b"other weights")
    client.set_tag(run.info.run_id, "verdict", "lost")
    restarted(database).sync(record)
    assert [one.tags["footprint.step"] for one in models()] == ["60"]


@pytest.mark.parametrize("call", ["log_outputs", "log_batch"])
def test_a_logged_model_that_an_outage_cut_short_is_made_again(database, make_record, monkeypatch, call):
    record, tracker = make_record(), opened(database)
    with record.saving("best") as directory:
        write_json(directory / "provenance.json", {"step": 30, "metrics": {"exact_match": 0.5}})
        (directory / "adapter_model.safetensors").write_bytes(b"weights")
    record.close(COMPLETED)
    client = MlflowClient(f"sqlite:///{database}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "stage4"]

    def model():
        (only,) = client.search_logged_models([experiment.experiment_id])
        return client.get_logged_model(only.model_id)

    works = getattr(MlflowClient, call)

    def fails(self, *values, **named):
        if call == "log_outputs" or any(one.model_id for one in named.get("metrics", ())):
            raise MlflowException("the store is away")
        return works(self, *values, **named)

    with monkeypatch.context() as away:
        away.setattr(MlflowClient, call, fails)
        with pytest.raises(MlflowException, match="the store is away"):
            tracker.sync(record)
    assert str(model().status) == "PENDING" and not model().metrics
    tracker.sync(record)
    assert str(model().status) == "READY"
    assert {one.key: one.value for one in model().metrics or ()} == {"best/exact_match": 0.5}
    (run,) = runs(database)
    assert run.outputs is not None
    assert model().model_id in [one.model_id for one in run.outputs.model_outputs]


@pytest.mark.parametrize("name", ["A1-lr0.0005", '50%: "best"', "it's"])
def test_a_name_that_mlflow_refuses_for_models_ends_its_run_all_the_same(database, make_record, name):
    record = make_record(name=name)
    keep_best(record, 30)
    record.close(COMPLETED)
    opened(database).sync(record)
    (run,) = runs(database)
    assert (run.info.run_name, run.info.status) == (name, "FINISHED")
    (model,) = MlflowClient(f"sqlite:///{database}").search_logged_models([run.info.experiment_id])
    assert model.source_run_id == run.info.run_id


def test_an_experiment_has_a_view_and_a_description_and_keeps_what_somebody_edited(database):
    client = MlflowClient(f"sqlite:///{database}")
    Tracker(f"sqlite:///{database}", "stage4", "How much?").open_launch("", {})
    found = client.get_experiment_by_name("stage4")
    assert found is not None and found.tags["mlflow.note.content"].startswith("How much?")
    shown = json.loads(found.tags["mlflow.sharedViewState.footprint"])
    assert {"name", "createdAt", "state"} <= shown.keys()
    assert "metrics.`best/exact_match`" in json.loads(shown["state"])["selectedColumns"]
    client.set_experiment_tag(found.experiment_id, "mlflow.note.content", "mine")
    Tracker(f"sqlite:///{database}", "stage4", "How much?").open_launch("", {})
    assert client.get_experiment(found.experiment_id).tags["mlflow.note.content"] == "mine"


def test_a_trial_says_in_words_what_it_is_and_how_it_ended(database, make_record):
    record, tracker = make_record(), opened(database)
    tracker.sync(record)
    begun = runs(database)[0].data.tags["mlflow.note.content"]
    assert begun.startswith("C2-L2-V2: LoRA of rank 16 on the last 2 language layers and the last 2 vision blocks")
    record.close(PRUNED)
    tracker.sync(record)
    ended = runs(database)[0].data.tags["mlflow.note.content"]
    assert ended.startswith(begun) and PRUNED.reason in ended and "no best checkpoint" in ended


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sqlite:////tmp/mlflow.db", "http://127.0.0.1:5000/#/experiments/7/runs?viewStateShareKey=footprint"),
        ("https://ann:secret@host:80/", "https://host:80/#/experiments/7/runs?viewStateShareKey=footprint"),
    ],
)
def test_the_address_of_the_view_is_on_the_server_and_has_no_password(uri, address):
    assert view_address(uri, "7") == address


def test_the_pages_of_a_launch_are_a_command_and_an_address(database, tmp_path):
    uri = f"sqlite:///{database}"
    opened(database)
    serve, address = pages_of("stage4", uri)
    assert serve == f"mlflow ui --backend-store-uri {uri}" and address.endswith("viewStateShareKey=footprint")
    assert pages_of("stage4", f"sqlite:///{tmp_path}/none.db") == [
        f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/none.db"
    ]
    assert pages_of("stage4", "http://ann:secret@127.0.0.1:9") == ["http://***@127.0.0.1:9"], "no server answers"


def test_a_running_trial_shows_its_curve_by_optimizer_step_and_no_verdict(database, make_record):
    opened(database).sync(make_record())
    (run,) = runs(database)
    assert not [key for key in run.data.metrics if "count" in key]
    assert run.info.status == "RUNNING" and not [key for key in run.data.tags if key.startswith(("verdict", "best"))]
    assert not [key for key in run.data.metrics if key.startswith(("final/", "best/"))]
    history = MlflowClient(f"sqlite:///{database}").get_metric_history(run.info.run_id, "eval/eval_loss")
    assert [(point.step, point.value) for point in history] == [(30, 0.03), (60, 0.06)]
    assert history[1].timestamp - history[0].timestamp == 3000, "the time axis is the trial's own clock"


@pytest.mark.parametrize(
    ("kind", "status"),
    [("completed", "FINISHED"), ("invalid", "FAILED"), ("infeasible", "FAILED"), ("failed", "FAILED")],
)
def test_every_other_verdict_has_its_status(database, make_record, kind, status):
    record = make_record()
    record.close(Verdict(kind=kind, step=60, reason="x" * 20_000))
    tracker = opened(database)
    tracker.sync(record)
    once = rows(database)
    tracker.sync(record)
    assert runs(database)[0].info.status == status and rows(database) == once


def test_an_arm_with_a_dash_keeps_its_whole_name(database, make_record):
    for arm in ("L1-all", "L1-attention"):
        for seed in (0, 1):
            opened(database).sync(make_record(f"{arm}-s{seed}", language=1 + seed, vision=len(arm), arm=arm))
    arms = [run.data.tags["trial.arm"] for run in runs(database)]
    assert sorted(arms) == ["L1-all", "L1-all", "L1-attention", "L1-attention"]


def test_syncing_again_even_from_a_new_process_changes_nothing(database, make_record):
    record, tracker = make_record(steps=(30,)), opened(database)
    tracker.sync(record)
    measure(record, 60)
    tracker.sync(record)
    record.close(COMPLETED)
    tracker.sync(record)
    tracker.close_launch()
    once = rows(database)
    tracker.sync(record)
    again = Tracker(f"sqlite:///{database}", "stage4")
    again.join_launch("sync", {})
    again.sync(record)
    assert rows(database) == once
    points = [row[:2] + row[3:4] for row in once["metrics"]]
    assert len(points) == len(set(points)), "a metric has two points at one step"


def test_an_eval_that_follows_its_train_line_is_not_taken_for_known(database, make_record):
    record, tracker = make_record(steps=()), opened(database)
    whole = make_record("D1-L2-V4", vision=4, steps=(30,))
    lines = (whole.directory / "metrics.jsonl").read_text().splitlines(keepends=True)
    for count in (1, 2):
        (record.directory / "metrics.jsonl").write_text("".join(lines[:count]))
        tracker.sync(record)
    assert set(runs(database)[0].data.metrics) >= {"train/step_loss", "deciding/exact_match"}


def test_an_outage_between_points_and_their_mark_doubles_no_point(database, make_record, monkeypatch):
    record, tracker = make_record(), opened(database)

    def after_points(client, run_id, metrics, params, tags):
        write(client, run_id, metrics)
        raise MlflowException("gone")

    write = MlflowClient.log_batch
    with monkeypatch.context() as patched, pytest.raises(MlflowException):
        patched.setattr(MlflowClient, "log_batch", after_points)
        tracker.sync(record)
    before = rows(database)["metrics"]
    tracker.sync(record)
    assert before and rows(database)["metrics"] == before


def test_a_failed_trial_that_is_resumed_gets_a_new_verdict(database, make_record):
    record, tracker = make_record(), opened(database)
    record.close(Verdict(kind="failed", step=60, cause="OSError"))
    tracker.sync(record)
    record.reopen()
    record.forget_after(30)
    tracker.sync(record)
    (resumed,) = runs(database)
    assert resumed.info.status == "RUNNING" and "verdict" not in resumed.data.tags
    record.close(Verdict(kind="completed", step=30))
    tracker.sync(record)
    (ended,) = runs(database)
    assert (ended.info.status, ended.data.tags["verdict"]) == ("FINISHED", "completed")
    assert "verdict.cause" not in ended.data.tags
    assert ended.data.metrics["final/exact_match"] == 1.03, "the curve shows the former end"
    record.reopen()
    tracker.sync(record)
    measure(record, 60)
    measure(record, 90)
    record.close(COMPLETED)
    tracker.sync(record)
    assert runs(database)[0].data.metrics["final/exact_match"] == 1.09, "what was written once is kept up"


def end_labelled(record: Record, *degraded: str) -> None:
    met, found = {"minimum": {"met": True}, "optimal": {"met": False}}, [{"check": check} for check in degraded]
    write_json(record.directory / "labels.json", {**met, "degraded": found})
    record.close(COMPLETED)


def test_labels_and_overridden_refusals_are_tags_and_a_trial_run_anew_has_none_of_its_former_end(database, make_record):
    record, tracker = make_record(), opened(database)
    write_json(record.directory / "overridden.json", [{"check": "coverage"}, {"check": "usable_rate"}])
    tracker.sync(record)
    assert runs(database)[0].data.tags["overridden"] == "coverage,usable_rate", "a running trial says so too"
    end_labelled(record, "gradient_spikes", "handover")
    tracker.sync(record)
    labels = {"criteria": "minimum", "degraded": "gradient_spikes,handover", "overridden": "coverage,usable_rate"}
    assert labels.items() <= runs(database)[0].data.tags.items()
    shutil.rmtree(record.directory)
    write_json(make_record(steps=(30,)).directory / "overridden.json", [{"check": "warmup"}])
    tracker.sync(record)
    tags = runs(database)[0].data.tags
    assert not {"criteria", "degraded"} & tags.keys() and tags["overridden"] == "warmup"


def test_a_store_from_before_the_labels_were_tags_gets_them_and_nothing_twice(database, make_record):
    record, tracker = make_record(), opened(database)
    end_labelled(record)
    tracker.sync(record)
    once = rows(database)
    MlflowClient(tracker.tracking_uri).delete_tag(runs(database)[0].info.run_id, "criteria")
    restarted(database).sync(record)
    assert rows(database) == once


def test_parallel_coordinates_drop_no_run(database, make_record):
    tracker = opened(database)
    trials = (("A0", 0, 0, COMPLETED), ("A2-L2-V0", 2, 0, PRUNED), ("C2-L2-V2", 2, 2, COMPLETED))
    for name, language, vision, verdict in trials:
        record = make_record(name, language, vision)
        record.close(verdict)
        tracker.sync(record)
    found = runs(database)
    numeric = [{key for key, value in run.data.params.items() if is_number(value)} for run in found]
    texts = {"quantization", "modules", "language_indices", "vision_indices"}
    assert len(found) == 3 and all(keys == set(found[0].data.params) - texts for keys in numeric)
    lasts = [{key.split("/")[1] for key in run.data.metrics if not key.startswith("best/")} for run in found]
    assert lasts[0] >= set(EVAL_METRICS) and lasts[0] == lasts[1] == lasts[2]


def is_number(value: str) -> bool:
    try:
        return float(value) == float(value)
    except ValueError:
        return False


def test_a_wiped_database_is_rebuilt_from_the_records(database, migrated_database, make_record, tmp_path):
    tracker = opened(database)
    for name, vision, verdict in (("A2-L2-V0", 0, PRUNED), ("C2-L2-V2", 2, COMPLETED), ("C4-L2-V4", 4, None)):
        record = make_record(name, 2, vision)
        if verdict:
            keep_best(record, 30)
            record.close(verdict)
        tracker.sync(record)
    rebuilt = tmp_path / "rebuilt.db"
    rebuilt.write_bytes(migrated_database.read_bytes())
    for _ in range(2):
        assert len(sync_all(tmp_path / "stage4", f"sqlite:///{rebuilt}", "stage4")) == 3
    assert rows(rebuilt, with_ids=False) == rows(database, with_ids=False)
    assert len(runs(rebuilt, "launch")) == 1


def test_a_damaged_record_is_named_and_the_others_are_written(database, make_record, tmp_path):
    damaged, whole = make_record("A2-L2-V0", vision=0), make_record()
    path = damaged.directory / "metrics.jsonl"
    path.write_text(path.read_text().replace("0.03", "0.99", 1))
    with pytest.raises(FileDamaged, match=f"{damaged.name}/metrics.jsonl:1: every line must match its checksum"):
        sync_all(tmp_path / "stage4", f"sqlite:///{database}", "stage4")
    assert "deciding/exact_match" in {run.info.run_name: run for run in runs(database)}[whole.spec().name].data.metrics


def test_a_launch_that_was_killed_stops_counting_as_running(database):
    opened(database)
    second = opened(database)
    second.close_launch()
    assert sorted(run.info.status for run in runs(database, "launch")) == ["FINISHED", "KILLED"]


def test_a_deleted_experiment_is_restored(database, make_record):
    opened(database)
    client = MlflowClient(f"sqlite:///{database}")
    client.delete_experiment(client.get_experiment_by_name("stage4").experiment_id)
    opened(database).sync(make_record())
    assert len(runs(database)) == 1


def test_no_secret_reaches_the_store(database, make_record, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "canary-environment")
    tracker = Tracker(f"sqlite:///{database}", "stage4")
    tracker.open_launch("stage4 --tracking-uri http://ann:canary-uri@host:5000 --api-token canary-option", {})
    record: Record = make_record()
    record.close(COMPLETED)
    tracker.sync(record)
    stored = [path for path in database.parent.rglob("*") if path.is_file() and "stage4/trials" not in str(path)]
    assert len(stored) > 3 and not [path for path in stored if b"canary" in path.read_bytes()]
    assert "--tracking-uri http://***@host:5000" in runs(database, "launch")[0].data.tags["footprint.command"]
    assert redacted("API request to http://ann:p@ss@host/api failed") == "API request to http://***@host/api failed"


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "./mlruns", "", "databricks", "sqlite://"])
def test_a_store_that_mlflow_gave_up_is_refused_before_anything_runs(uri):
    with pytest.raises(UserError, match="must be a database or a server, but got"):
        Tracker(uri, "stage4")


def test_the_default_is_the_database_mlflow_ui_opens_here(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_tracking_uri() == checked_uri("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_error_on_a_closed_port_has_the_address_and_a_hint(make_record, tmp_path):
    make_record()
    with pytest.raises(StoreUnreachable, match=r"http://\*\*\*@127.0.0.1:9 did not") as caught:
        sync_all(tmp_path / "stage4", "http://ann:secret@127.0.0.1:9", "stage4")
    assert "secret" not in str(caught.value) and caught.value.exit_code == 4


@pytest.mark.parametrize("name", ["实验🚀", "ניסוי", "e\u0301tude"])
def test_an_experiment_with_a_name_in_any_script_is_kept_and_copied(database, make_record, name):
    record = make_record(steps=(30,))
    home = record.home.parents[2] / name / "trials" / record.name
    shutil.copytree(record.home, home)
    Record(home).close(COMPLETED)
    assert sync_all(home.parent.parent, f"sqlite:///{database}", name) == [record.name]
    client = MlflowClient(f"sqlite:///{database}")
    found = client.get_experiment_by_name(name)
    assert [run.data.tags["verdict"] for run in client.search_runs([found.experiment_id], "tags.verdict = 'completed'")]
