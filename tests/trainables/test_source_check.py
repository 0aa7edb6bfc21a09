"""Tests that base, data and parent adapter are compared with the digests that a trial was planned with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_trials import Sources, SpecMaker, hashed_sources

from trainables.checkpoints.adapter import adapter_source
from trainables.errors import UserError
from trainables.model.base_files import base_digest
from trainables.source_check import SourceChanged, check_sources
from trainables.spec import Source, TrialSpec

FILES = ("train", "validation", "ood")


@pytest.fixture
def own(sources: Sources, tmp_path: Path) -> Sources:
    """Copy base, rows and pictures, so that a test can change them."""
    directory = Path(shutil.copytree(sources.train.path.parent, tmp_path / "data"))
    paths = {name: directory / getattr(sources, name).path.name for name in FILES}
    return hashed_sources(directory / "base", paths)


@pytest.fixture
def spec(own: Sources) -> TrialSpec:
    return own.spec()


def other_answer(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("lamp", "tower", 1), encoding="utf-8")


def test_unchanged_sources_pass(spec: TrialSpec) -> None:
    check_sources([spec, spec.baseline()])


@pytest.mark.parametrize(
    ("name", "role"), [("train", "training"), ("validation", "validation"), ("ood", "out-of-distribution")]
)
def test_a_changed_file_is_named(name: str, role: str, spec: TrialSpec) -> None:
    path = getattr(spec, name).path
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(SourceChanged, match=f"{path.name}: the {role} rows must be unchanged") as error:
        check_sources([spec])
    assert error.value.exit_code == 2 and "--experiment" in (error.value.hint or "")
    check_sources([spec], fresh=[getattr(spec, name)])


def test_a_changed_answer_and_a_changed_picture_are_found(spec: TrialSpec) -> None:
    picture = next((spec.train.path.parent / "images").rglob("*.png"))
    pictures = [one for one in spec.train.path.parent.rglob("*.png") if one.name in spec.train.path.read_text()]
    before = pictures[0].read_bytes()
    pictures[0].write_bytes(before + b"\x00")
    with pytest.raises(SourceChanged, match="the training rows must be unchanged"):
        check_sources([spec])
    pictures[0].write_bytes(before)
    check_sources([spec])
    assert picture.exists()
    other_answer(spec.train.path)
    with pytest.raises(SourceChanged, match="the training rows must be unchanged"):
        check_sources([spec])


def test_a_changed_base_is_found_in_every_format(spec: TrialSpec) -> None:
    base = Source(path=spec.base.path, sha256=base_digest(spec.base.path, 1))
    old = spec.model_copy(update={"format": 1, "base": base})
    check_sources([spec, old])
    (spec.base.path / "chat_template.jinja").write_text("{{ messages }}")
    check_sources([old])  # format 1 never covered it
    with pytest.raises(SourceChanged, match="the base must be unchanged"):
        check_sources([spec])


@pytest.mark.parametrize("name", ["base", *FILES])
def test_a_missing_file_is_named(name: str, spec: TrialSpec) -> None:
    path = getattr(spec, name).path
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=str(path)):
        check_sources([spec])


def test_rows_of_earlier_stages_and_the_parent_adapter_count(
    spec: TrialSpec, tmp_path: Path, adapter_at: Callable[[Path], Path]
) -> None:
    parent = adapter_at(tmp_path / "parent")
    continued = spec.model_copy(update={"init_from": adapter_source(parent), "earlier": (spec.validation,)})
    check_sources([continued])
    (parent / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(SourceChanged, match="the adapter to continue must be unchanged"):
        check_sources([continued])
    stale = Source(path=spec.validation.path, sha256="of another day")
    with pytest.raises(SourceChanged, match="the validation rows must be unchanged"):
        check_sources([spec.model_copy(update={"earlier": (stale,)})])


@pytest.fixture
def adapter_at() -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        directory.mkdir()
        (directory / "adapter_config.json").write_text("{}")
        (directory / "adapter_model.safetensors").write_bytes(b"weights")
        return directory

    return write


def test_a_worker_does_not_load_what_has_changed(own: Sources, tmp_path: Path, make_spec: SpecMaker) -> None:
    """The trial fails, which a resumed launch runs again, and the next trial of the worker opens."""
    from trainables.record import Record
    from trainables.workers.engine_cache import EngineCache
    from trainables.workers.protocol import Rules

    other_answer(own.train.path)
    record = Record(tmp_path / "t")
    record.create(own.spec())
    cache = EngineCache()
    assert cache.open(record, Rules({}, (), None)) is None  # type: ignore[arg-type] no constraint is read
    verdict = record.verdict()
    assert verdict is not None and str(verdict) == "failed(changed_source)"
    assert str(own.train.path) in (verdict.reason or "") and cache.engine is None
