"""Tests that damage of a record is found and named, and that what an unfinished trial lost is no damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_trials import SpecMaker

from trainables.io.files import FileDamaged, write_json
from trainables.measurement import Measurement
from trainables.record import ADAPTERS, DERIVED, HOLDOUT, Record, records_under
from trainables.record_check import check_record, missing_lines
from trainables.record_labels import labels_of
from trainables.verdict import Verdict

LABELS = {"minimum": {"met": True}, "optimal": {"met": False}, "degraded": []}
FILES = ("spec.json", "verdict.json", "metrics.jsonl", "labels.json", "placement.json", "samples/step-2.jsonl",
         "best/adapter.bin", "best/manifest.json", "best/provenance.json", "adapters/step-2/adapter.bin",
         "adapters/step-4/manifest.json")  # fmt: skip


@pytest.fixture
def ended(tmp_path: Path, make_spec: SpecMaker) -> Record:
    """A completed trial of four steps with an eval after two."""
    spec = make_spec()
    record = Record(tmp_path / "trials" / f"trial-{spec.trial_id}")
    record.create(spec)
    write_json(record.directory / "placement.json", {"language": {}})
    for step in (2, 4):
        record.append(Measurement("train", step, {"step_loss": 1 / step}))
        record.append(Measurement("eval", step, {"eval_loss": 1 / step}))
        record.write_samples(step, [{"answer": "yes"}])
        with record.saving(f"checkpoints/step-{step}") as directory:
            (directory / "adapter.bin").write_bytes(b"\x01" * 10)
        with record.saving(f"adapters/step-{step}") as directory:
            (directory / "adapter.bin").write_bytes(bytes([step]) * 10)
    with record.saving("best") as directory:
        write_json(directory / "provenance.json", {"step": 4, "metrics": {"eval_loss": 0.25}})
        (directory / "adapter.bin").write_bytes(b"weights")
    write_json(record.directory / "labels.json", LABELS)
    record.close(Verdict(kind="completed", step=4))
    return record


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 4
    path.write_bytes(data)


def named(name: str) -> str:
    """Return what an error must name: the directory for a file of an adapter, which has a manifest of its own."""
    return str(Path(name).parent) if name.startswith(("best/", "adapters/step-")) and "." in name else name


def test_a_whole_record_is_whole(ended: Record) -> None:
    check_record(ended)
    shutil.rmtree(ended.directory / "checkpoints")
    check_record(ended)


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_of_an_ended_trial_is_found(name: str, ended: Record) -> None:
    path = ended.directory / name
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 12)):
        flip(path, place)
        with pytest.raises(FileDamaged) as error:
            check_record(ended)
        assert str(ended.directory / named(name)) in error.value.message
        assert error.value.exit_code == 4
        path.write_bytes(whole)
    check_record(ended)


@pytest.mark.parametrize("name", [*FILES, "best", "adapters/step-2"])
def test_every_missing_file_of_an_ended_trial_is_named(name: str, ended: Record) -> None:
    path = ended.directory / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileDamaged) as error:
        check_record(ended)
    assert str(ended.directory / named(name)) in error.value.message


@pytest.mark.parametrize("shape", ["{}", "[]", "null", "1", '"text"', '{"kind": "completed"}', "", '{"sha256": []}'])
@pytest.mark.parametrize("name", ["spec.json", "verdict.json", "labels.json", "manifest.json"])
def test_another_shape_is_damage_with_and_without_a_manifest(name: str, shape: str, ended: Record) -> None:
    for _ in range(2):
        (ended.directory / name).write_text(shape)
        with pytest.raises(FileDamaged, match=name.replace(".", r"\.")):
            check_record(ended)
        if name == "manifest.json":
            return
        (ended.directory / "manifest.json").unlink(missing_ok=True)


def test_what_is_measured_after_the_end_is_no_damage(ended: Record) -> None:
    for name in (DERIVED, HOLDOUT):
        ended.append(Measurement("eval", 4, {"eval_loss": 0.5}, scale="0.5"), name)
    ended.close(Verdict(kind="completed", step=4))
    ended.append(Measurement("eval", 4, {"eval_loss": 0.5}, scale="average"), DERIVED)
    check_record(ended)
    assert [one.scale for one in ended.later_evals(DERIVED)] == ["0.5", "average"]


def test_an_adapter_is_found_where_it_is_kept_whole(ended: Record) -> None:
    kept = ended.directory / ADAPTERS / "step-4"
    assert ended.adapter_at(4) == kept
    flip(kept / "adapter.bin", 0)
    assert ended.adapter_at(4) == ended.checkpoint(4)
    shutil.rmtree(ended.directory / "checkpoints")
    assert ended.adapter_at(4) == ended.directory / "best"
    flip(ended.directory / "best" / "adapter.bin", 0)
    assert ended.adapter_at(4) is None
    assert ended.adapter_at(3) is None


def test_an_adapter_that_a_crash_left_half_written_is_absent(ended: Record) -> None:
    with pytest.raises(RuntimeError), ended.saving("adapters/step-6") as directory:
        (directory / "adapter.bin").write_bytes(b"half")
        raise RuntimeError
    assert ended.adapter_at(6) is None
    ended.close(Verdict(kind="completed", step=4))
    shutil.rmtree(ended.directory / ADAPTERS / ".step-6.tmp")
    check_record(ended)


def test_labels_of_another_shape_are_damage(ended: Record) -> None:
    write_json(ended.directory / "overridden.json", {"check": 1})
    with pytest.raises(FileDamaged, match=r"overridden\.json: labels must be as they were written"):
        labels_of(ended)


def test_a_spec_of_another_trial_is_damage(ended: Record) -> None:
    path = ended.directory / "spec.json"
    write_json(path, {**json.loads(path.read_text()), "rank": 8})
    with pytest.raises(FileDamaged, match="must have the id of its directory, "):
        ended.spec()


def test_a_record_that_lost_its_spec_is_still_a_record(ended: Record) -> None:
    trials = ended.directory.parent
    (ended.directory / "spec.json").unlink()
    (trials / f"begun-{'0' * 12}").mkdir()  # killed before it had a file
    (trials / "notes").mkdir()
    (trials / "notes" / "a.txt").touch()
    assert [one.name for one in records_under(trials)] == [ended.name]
    with pytest.raises(FileDamaged, match=r"spec\.json: a record must have its specification"):
        check_record(ended)


# ---------------------------------------------------------------- records of earlier versions have no manifest
@pytest.fixture
def older(ended: Record) -> Record:
    (ended.directory / "manifest.json").unlink()
    return ended


def without_the_last_line(record: Record) -> None:
    path = record.directory / "metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (without_the_last_line, "metrics.jsonl must hold the eval of step 4"),
        (lambda record: (record.directory / "metrics.jsonl").unlink(), "metrics.jsonl must hold the train of step 2"),
        (lambda record: flip(record.directory / "metrics.jsonl", 30), "metrics.jsonl:1: every line must match"),
        (lambda record: flip(record.directory / "best" / "adapter.bin", 0), "best must have all files"),
        (lambda record: flip(record.directory / ADAPTERS / "step-2" / "adapter.bin", 0), "step-2 must have all files"),
    ],
)
def test_damage_is_found_without_a_manifest(damage: Callable[[Record], None], named: str, older: Record) -> None:
    check_record(older)
    damage(older)
    with pytest.raises(FileDamaged, match=named.replace(".", r"\.")):
        check_record(older)


# ---------------------------------------------------------------- trials that have not ended
def test_a_torn_tail_of_an_unfinished_trial_is_no_damage(ended: Record) -> None:
    path = ended.directory / "metrics.jsonl"
    whole = path.read_bytes()
    (ended.directory / "verdict.json").unlink()
    with pytest.raises(FileDamaged, match=r"verdict\.json is missing, although the trial has ended"):
        check_record(ended)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        check_record(ended)
    path.unlink()
    check_record(ended)


def test_a_failed_trial_may_run_again(ended: Record) -> None:
    ended.close(Verdict(kind="failed", step=4))
    check_record(ended)
    ended.reopen()
    assert not (ended.directory / "manifest.json").exists()
    check_record(ended)


def test_a_damaged_lease_is_found_before_the_trial_runs_again(ended: Record) -> None:
    lease = ended.home / "lease.json"
    lease.write_text("")
    check_record(ended)  # nobody writes it any more
    lease.unlink()
    ended.close(Verdict(kind="failed", step=4))
    lease.write_text("")
    with pytest.raises(FileDamaged, match=r"lease\.json: "):
        check_record(ended)


def test_going_back_forgets_what_came_later(ended: Record) -> None:
    for step in (2, 4):
        ended.append(Measurement("eval", step, {"eval_loss": 0.5}, scale="0.5"), DERIVED)
    ended.forget_after(2)
    assert ended.checkpoint_steps() == [2]
    assert [path.name for path in (ended.directory / ADAPTERS).iterdir()] == ["step-2"]
    assert [one.step for one in ended.later_evals(DERIVED)] == [2]
    assert [one.step for one in ended.measurements()] == [2, 2]
    assert not (ended.directory / "manifest.json").exists()


def test_the_lines_of_a_step_are_those_of_all_evals_until_then(make_spec: SpecMaker) -> None:
    spec = make_spec(steps=5)
    both = [("train", 2), ("eval", 2), ("train", 4), ("eval", 4)]
    assert missing_lines(spec, 1, []) == []
    assert missing_lines(spec, 4, []) == both
    assert missing_lines(spec, 5, []) == [*both, ("train", 5), ("eval", 5)]
    assert missing_lines(spec.baseline(), 5, []) == [("eval", 0)]
    continued = make_spec(init_from=spec.base)
    assert missing_lines(continued, 0, []) == []
    assert missing_lines(continued, 1, []) == [("eval", 0)]
