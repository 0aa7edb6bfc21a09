"""Tests that the forecast of a pass lies within ten percent of the live tensors of a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.forecast import Pass, forecast_bytes, specs_of
from trainables.data.encoding import Encoder, collate
from trainables.data.rows import read_rows
from trainables.mini import BASE_DIRECTORY, datasets
from trainables.model.base import Base, load_base

WITHIN = 0.10
PASSES = {
    "language": (8, [(2, 0)]),
    "deep language": (3, [(8, 0)]),
    "vision": (4, [(0, 3)]),
    "both": (4, [(3, 5)]),
    "three trials": (4, [(1, 0), (2, 0), (2, 2)]),
}


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rows")
    rows = datasets.task_rows(datasets.Album(directory), "train", 8, 0)
    datasets.write_lines(directory / "train.jsonl", rows)
    return directory / "train.jsonl"


@pytest.fixture(scope="module", params=["none", pytest.param("nf4-double", marks=pytest.mark.slow)])
def base(request: pytest.FixtureRequest) -> Iterator[Base]:
    yield load_base(BASE_DIRECTORY, request.param, "float32", torch.device("cpu"), "quantized" if "nf4" in request.param
                    else "auto")  # fmt: skip


@pytest.mark.parametrize("name", PASSES)
def test_the_forecast_is_within_ten_percent(name: str, base: Base, train: Path) -> None:
    rows, arms = PASSES[name]
    encoder = Encoder(base)
    batch = collate(
        [encoder.conversation(one) for one in read_rows(train)[:rows]], encoder, base.device, pad_left=False
    )
    quantization = "none" if base.residency == "unquantized" else "nf4-double"
    specs = specs_of(BASE_DIRECTORY, arms, quantization)
    one = Pass(base, specs, batch)
    try:
        measured = one.peak_bytes()
    finally:
        one.shared.remove()
    assert forecast_bytes(base, specs, batch) == pytest.approx(measured, rel=WITHIN)
