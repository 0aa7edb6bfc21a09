"""Tests what a storage knows of baselines: the key has all that can change their metrics, and no damage is believed."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from trainables import known_baselines
from trainables.attempt import claim
from trainables.engine_log import add_use
from trainables.io.files import FileDamaged, write_json
from trainables.known_baselines import (
    DIRECTORY,
    SOURCE,
    BaselineKey,
    MeasuredBy,
    key_of,
    known_baseline,
    measured_by,
    remember,
    take_over,
)
from trainables.measurement import Measurement
from trainables.mini import BASE_DIRECTORY, datasets
from trainables.model.base_files import base_digest
from trainables.record import Record
from trainables.record_check import check_record
from trainables.source_check import _digest, _readings
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature's base and rows, with the chat template as a file of its own, and generation settings."""
    root = tmp_path_factory.mktemp("sources")
    shutil.copytree(BASE_DIRECTORY, root / "base")
    write_json(root / "base" / "generation_config.json", {"do_sample": False})
    datasets.write(root / "data", 0)
    return root


def spec_in(root: Path, **settings: Any) -> TrialSpec:
    """Return the baseline of the rows below `root`, with the digests that planning would find."""
    data = datasets.files_in(root / "data")
    paths = {"train": data.train, "validation": data.validation, "ood": data.ood}
    sources = {name: Source(path=path, sha256="") for name, path in paths.items()}
    sources["base"] = Source(path=root / "base", sha256=base_digest(root / "base", 3))
    spec = TrialSpec(name="A0", arm="A0", placement=Placement(), **{**sources, **settings})
    found = {one.source.path: _digest(one) for one in _readings(spec) if one.role != "base"}
    digests = {name: Source(path=path, sha256=found[path]) for name, path in paths.items()}
    return spec.model_copy(update=digests)


def digest_in(root: Path, device: str = "cpu", **settings: Any) -> str:
    return key_of(spec_in(root, **settings), device).digest


# ---------------------------------------------------------------- the key
def append(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / name
        path.write_bytes(path.read_bytes() + b" ")

    return change


def change_row(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "data" / name
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:-1]), encoding="utf-8")

    return change


def change_picture(root: Path) -> None:
    data = datasets.files_in(root / "data")
    from trainables.data.ood import needed_kinds, read_ood

    picture = next(image for row in read_ood(data.ood, needed_kinds(True)) for image in row.images)
    picture.write_bytes(picture.read_bytes() + b"\0")


CHANGES: dict[str, Callable[[Path], Any]] = {
    "weights": append("base/model.safetensors"),
    "configuration": append("base/config.json"),
    "tokenizer": append("base/tokenizer.json"),
    "tokenizer settings": append("base/tokenizer_config.json"),
    "image processor": append("base/preprocessor_config.json"),
    "a new chat template": lambda root: (root / "base" / "chat_template.jinja").write_text("{{ 1 }}"),
    "generation settings": append("base/generation_config.json"),
    "train row": change_row("train.jsonl"),
    "validation row": change_row("validation.jsonl"),
    "ood row": change_row("ood.jsonl"),
    "picture": change_picture,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "quantization": {"quantization": "int8"},
    "compute dtype": {"compute_dtype": "bfloat16"},
    "length": {"max_tokens": 333},
    "format": {"format": 2},
    "date": {"template_date": "2026-01-01"},
    "earlier rows": {"earlier": (Source(path=Path("x"), sha256="e"),)},
}


@pytest.mark.parametrize("part", CHANGES)
def test_every_file_that_can_change_the_metrics_makes_another_key(part: str, files: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(files, copied)
    before = digest_in(copied)
    assert before == digest_in(files), "paths are no part of the key"
    CHANGES[part](copied)
    assert digest_in(copied) != before


def test_every_setting_that_can_change_the_metrics_makes_another_key(files: Path) -> None:
    spec = spec_in(files)
    keys = {"as it is": key_of(spec, "cpu").digest, "device": key_of(spec, "cuda").digest}
    keys |= {name: key_of(spec.model_copy(update=values), "cpu").digest for name, values in SETTINGS.items()}
    assert len(set(keys.values())) == len(keys), keys
    arm = spec.model_copy(update={"learning_rate": 1.0, "seed": 9, "steps": 77, "name": "B"})
    assert key_of(arm, "cpu").digest == keys["as it is"], "a baseline trains nothing"


@pytest.mark.parametrize("part", [one.name for one in fields(BaselineKey)])
def test_every_part_of_the_key_is_in_its_digest(part: str, files: Path) -> None:
    key = key_of(spec_in(files), "cpu")
    other: Any = (("torch", "0"),) if part == "libraries" else "another"
    assert replace(key, **{part: other}).digest != key.digest


def test_versions_and_code_are_in_the_key(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_in(files)
    before = key_of(spec, "cpu")
    assert {"torch", "transformers", "tokenizers", "bitsandbytes", "pillow"} <= dict(before.libraries).keys()
    monkeypatch.setattr(known_baselines, "version", lambda name: "0.0")
    assert key_of(spec, "cpu").libraries != before.libraries
    monkeypatch.setattr(known_baselines, "code_digest", lambda: "changed")
    assert key_of(spec, "cpu").code == "changed"


# ---------------------------------------------------------------- the storage
METRICS = {"exact_match": 0.25, "eval_loss": 1.5}


def measured(storage: Path, spec: TrialSpec, experiment: str = "first", kind: Any = "completed") -> Record:
    """A baseline that was measured on a CPU."""
    record = Record(storage / experiment / "trials" / f"A0-{spec.trial_id}")
    record.create(spec)
    record = claim(record)
    add_use(record.directory, "cpu", 1, "unquantized")
    write_json(record.directory / "placement.json", {"language": {}})
    record.append(Measurement("train", 0, {"eval_seconds": 3.0}))
    record.append(Measurement("eval", 0, METRICS))
    record.write_samples(0, [{"question": "what?", "answer": "this"}])
    record.close(Verdict(kind=kind, step=0))
    return record


@pytest.fixture
def spec(files: Path) -> TrialSpec:
    return spec_in(files)


@pytest.fixture
def key(spec: TrialSpec) -> BaselineKey:
    return key_of(spec, "cpu")


def test_a_known_baseline_is_taken_over_whole_and_names_its_source(
    tmp_path: Path, spec: TrialSpec, key: BaselineKey
) -> None:
    first = measured(tmp_path, spec)
    assert known_baseline(tmp_path, key) is None
    assert remember(tmp_path, key, first)
    found = known_baseline(tmp_path, key)
    assert found is not None and found[0].home == first.home
    second = Record(tmp_path / "second" / "trials" / first.name)
    second.create(spec)
    take_over(*found, claim(second))
    assert second.measurements() == first.measurements() and second.samples(0) == first.samples(0)
    assert str(second.verdict()) == "completed"
    assert measured_by(second) == MeasuredBy("first", first.name, key.digest)
    assert measured_by(first) is None
    check_record(second)
    assert not remember(tmp_path, key, second), "only what was measured is known"


def test_a_copy_that_was_killed_halfway_begins_again(tmp_path: Path, spec: TrialSpec, key: BaselineKey) -> None:
    remember(tmp_path, key, measured(tmp_path, spec))
    found = known_baseline(tmp_path, key)
    assert found is not None
    second = Record(tmp_path / "second" / "trials" / f"A0-{spec.trial_id}")
    second.create(spec)
    write_json(second.directory / SOURCE, {"experiment": "gone", "trial": "x", "digest": "y"})
    (second.directory / "metrics.jsonl").write_bytes((found[0].directory / "metrics.jsonl").read_bytes()[:-9])
    assert second.verdict() is None
    take_over(*found, claim(second))
    assert second.measurements() == found[0].measurements() and measured_by(second) == found[1]
    check_record(second)


@pytest.mark.parametrize("kind", ["invalid", "failed", "infeasible"])
def test_only_a_baseline_whose_evals_were_witnessed_is_remembered(
    kind: str, tmp_path: Path, spec: TrialSpec, key: BaselineKey
) -> None:
    assert not remember(tmp_path, key, measured(tmp_path, spec, kind=kind))
    assert known_baseline(tmp_path, key) is None


def test_a_baseline_of_another_device_or_spec_is_not_remembered(
    tmp_path: Path, spec: TrialSpec, key: BaselineKey
) -> None:
    first = measured(tmp_path, spec)
    assert not remember(tmp_path, key_of(spec, "cuda"), first)
    other = spec.model_copy(update={"quantization": "int8"})
    assert not remember(tmp_path, key_of(other, "cpu"), first)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace("first", "other"))


def damage_source(name: str) -> Callable[[Path, Record], None]:
    def damage(entry: Path, record: Record) -> None:
        path = record.directory / name
        path.write_bytes(path.read_bytes().replace(b"1.5", b"1.6").replace(b"this", b"that"))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path, Record], Any], str]] = {
    "cut": (lambda entry, record: cut(entry), "json"),
    "edited": (lambda entry, record: edit(entry), "as it was written"),
    "no object": (lambda entry, record: entry.write_text("[1]"), "as it was written"),
    "source gone": (lambda entry, record: shutil.rmtree(record.home), "must be on this storage"),
    "metrics": (damage_source("metrics.jsonl"), "must be whole"),
    "samples": (damage_source("samples/step-0.jsonl"), "must be whole"),
    "manifest gone": (lambda entry, record: (record.directory / "manifest.json").unlink(), "must be whole"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_entry_or_source_is_said_and_not_believed(
    name: str, tmp_path: Path, spec: TrialSpec, key: BaselineKey
) -> None:
    damage, reason = DAMAGES[name]
    record = measured(tmp_path, spec)
    remember(tmp_path, key, record)
    damage(tmp_path / DIRECTORY / f"{key.digest}.json", record)
    with pytest.raises(FileDamaged, match=f"(?i){reason}") as caught:
        known_baseline(tmp_path, key)
    assert "measured again" in (caught.value.hint or "") or name == "cut"


def test_an_entry_of_another_key_is_foreign(tmp_path: Path, spec: TrialSpec, key: BaselineKey) -> None:
    remember(tmp_path, key, measured(tmp_path, spec))
    other = replace(key, code="changed")
    shutil.copy(tmp_path / DIRECTORY / f"{key.digest}.json", tmp_path / DIRECTORY / f"{other.digest}.json")
    with pytest.raises(FileDamaged, match="as it was written"):
        known_baseline(tmp_path, other)


def test_a_source_that_was_measured_again_is_another(tmp_path: Path, spec: TrialSpec, key: BaselineKey) -> None:
    record = measured(tmp_path, spec)
    remember(tmp_path, key, record)
    shutil.rmtree(record.home)
    again = measured(tmp_path, spec)
    assert known_baseline(tmp_path, key) is not None, "equal in every file"
    again.reopen()
    again.append(Measurement("eval", 0, {**METRICS, "eval_loss": 1.75}))
    again.close(Verdict(kind="completed", step=0))
    with pytest.raises(FileDamaged, match="but it has changed"):
        known_baseline(tmp_path, key)


def _remember_often(storage: Path, spec: TrialSpec, experiment: str) -> None:
    key, record = key_of(spec, "cpu"), Record(storage / experiment / "trials" / f"A0-{spec.trial_id}")
    for _ in range(30):
        assert remember(storage, key, record)


def test_two_launches_at_once_leave_one_whole_entry(tmp_path: Path, spec: TrialSpec, key: BaselineKey) -> None:
    names = ("first", "second")
    for name in names:
        measured(tmp_path, spec, name)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_remember_often, args=(tmp_path, spec, name)) for name in names]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        found = known_baseline(tmp_path, key)  # raises for an entry that is half written
        seen |= {found[1].experiment} if found else set()
    assert [writer.exitcode for writer in writers] == [0, 0] and seen <= set(names)
    assert [path.name for path in (tmp_path / DIRECTORY).iterdir()] == [f"{key.digest}.json"]
    assert json.loads((tmp_path / DIRECTORY / f"{key.digest}.json").read_text())["experiment"] in names
