"""Tests that a cut is measured once for each shape and machine, and that no damage of the memory reaches a cohort."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
from frozen_room import keeping
from small_trials import SpecMaker

from trainables.cohort.calibration_memory import CalibrationMemory, CohortShape, shape_of
from trainables.cohort.cuts import Cut, Member, cut_in
from trainables.engine import Engine

SHAPE = CohortShape(
    "base", "none", "float32", ((2, 48, 64),), ((1, 0, 8), (2, 2, 8)), "unquantized", True, "cpu", 1, "code", "2.0"
)
OTHERS = {
    "base": "other", "quantization": "nf4", "compute_dtype": "bfloat16", "batches": ((2, 49, 64),),
    "members": ((1, 0, 8), (2, 2, 4)), "residency": "dequantized", "kept": False, "device": "another", "threads": 2,
    "code": "changed", "torch": "2.1",
}  # fmt: skip


class Measuring:
    """Counts its calls; each measures another cut."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Cut:
        self.calls += 1
        return Cut(((2, 2),), self.calls)


def test_a_shape_is_measured_once(tmp_path: Path) -> None:
    memory, measure = CalibrationMemory(tmp_path / "calibrations"), Measuring()
    assert memory.remembered(SHAPE, cut_in, measure) == Cut(((2, 2),), 1)
    again = CalibrationMemory(tmp_path / "calibrations")
    assert again.remembered(SHAPE, cut_in, measure) == Cut(((2, 2),), 1) and measure.calls == 1


@pytest.mark.parametrize("name", [one.name for one in fields(CohortShape)])
def test_every_part_of_a_shape_makes_another(name: str, tmp_path: Path) -> None:
    memory, measure = CalibrationMemory(tmp_path), Measuring()
    memory.remembered(SHAPE, cut_in, measure)
    memory.remembered(replace(SHAPE, **{name: OTHERS[name]}), cut_in, measure)
    assert measure.calls == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"edges": [], "width": 0}',
        b'{"edges": [[1]], "width": 1}',
        b'{"edges": [[1, 0.5]], "width": 1}',
        b'{"edges": [], "width": true}',
        b"\xff",
    ],
)
def test_a_damaged_file_is_measured_again(content: bytes, tmp_path: Path) -> None:
    memory, measure = CalibrationMemory(tmp_path), Measuring()
    memory.remembered(SHAPE, cut_in, measure)
    [entry] = tmp_path.iterdir()
    entry.write_bytes(content)
    assert memory.remembered(SHAPE, cut_in, measure) == Cut(((2, 2),), 2)
    assert memory.remembered(SHAPE, cut_in, measure) == Cut(((2, 2),), 2)


def test_a_cut_that_did_not_fit_is_forgotten_and_without_a_cache_nothing_is_kept(tmp_path: Path) -> None:
    memory, measure = CalibrationMemory(tmp_path), Measuring()
    memory.remembered(SHAPE, cut_in, measure)
    memory.forget(SHAPE)
    memory.forget(SHAPE)
    assert list(tmp_path.iterdir()) == []
    nowhere = CalibrationMemory(None)
    nowhere.remembered(SHAPE, cut_in, measure)
    nowhere.forget(SHAPE)
    assert nowhere.remembered(SHAPE, cut_in, measure) == Cut(((2, 2),), 3)


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "calibrations").touch()
    assert CalibrationMemory(tmp_path / "calibrations").remembered(SHAPE, cut_in, Measuring()) == Cut(((2, 2),), 1)


def test_a_shape_is_that_of_its_engine(engine: Engine, make_spec: SpecMaker) -> None:
    spec = make_spec()
    batches = engine.batches(engine.row_stream(spec, 0), spec, 0)
    members = [Member(0, 2, 1, 4), Member(1, 1, 0, 8)]
    kept = keeping(engine)
    plain = replace(engine, kept=None)
    found = shape_of(kept, spec, members, batches)
    assert (found.kept, shape_of(plain, spec, members, batches).kept) == (True, False)
    assert found.members == ((1, 0, 8), (2, 1, 4)) and found.residency == engine.base.residency == "unquantized"
    held = replace(kept, base=replace(kept.base, residency="dequantized"))
    assert shape_of(held, spec, members, batches) == replace(found, residency="dequantized")
