"""The miniature's rows and two loaded engines, created once per session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_trials import Sources, SpecMaker, few_rows

from trainables.mini import datasets
from trainables.mini.datasets import Files
from trainables.probes.captions import captions
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import TrialSpec

if TYPE_CHECKING:
    from trainables.engine import Engine
    from trainables.model.base import Base


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return datasets.write(tmp_path_factory.mktemp("data") / "mini", seed=0)


@pytest.fixture(scope="session")
def sources(files: Files) -> Sources:
    return few_rows(files)


@pytest.fixture(scope="session")
def vision_sources_of(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sources]:
    """Make the tiny base of a family that takes pictures, and rows with pictures of several sizes, once."""

    @cache
    def make(family: str) -> Sources:
        from tiny_families import picture_sources, write_vision_base

        directory = tmp_path_factory.mktemp(family)
        return picture_sources(directory, write_vision_base(family, directory / "base"), sources)

    return make


@pytest.fixture(scope="session")
def sequential_sources_of(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sources]:
    """Make the tiny base of a family whose trials train one after another, and its rows, once."""

    @cache
    def make(family: str) -> Sources:
        from tiny_families import picture_sources, text_sources
        from tiny_sequential import SEEING, write_sequential_base

        directory = tmp_path_factory.mktemp(family)
        base = write_sequential_base(family, directory / "base")
        return picture_sources(directory, base, sources) if family in SEEING else text_sources(directory, base)

    return make


@pytest.fixture(scope="session")
def make_spec(sources: Sources) -> SpecMaker:
    return sources.spec


@pytest.fixture(scope="session")
def engine(make_spec: SpecMaker) -> Engine:
    """An unquantized engine; a test that uses it must restore the base."""
    return loaded_engine(make_spec())


@pytest.fixture(scope="session")
def nf4_engine(make_spec: SpecMaker) -> Engine:
    return loaded_engine(make_spec(quantization="nf4-double"))


@pytest.fixture(scope="session")
def baseline(engine: Engine) -> Baseline:
    scores, answers = engine.evaluator.measure(None)
    return Baseline(scores.metrics, captions(engine.evaluator.data, answers), scores.counts)


def loaded_engine(spec: TrialSpec) -> Engine:
    import torch

    from trainables.engine import Engine

    torch.set_num_threads(1)  # on busy cores, threads of one small product wait for each other
    return Engine.load(spec, torch.device("cpu"))


@pytest.fixture
def own_base(make_spec: SpecMaker) -> Callable[..., Base]:
    """Load a base that a test may change."""
    import torch

    from trainables.model.base import load_base

    torch.set_num_threads(1)

    def load(quantization: str = "none", dtype: str = "float32") -> Base:
        return load_base(make_spec().base.path, quantization, dtype, torch.device("cpu"))  # type: ignore[arg-type]

    return load


@pytest.fixture
def record(tmp_path: Path, make_spec: SpecMaker) -> Record:
    made = Record(tmp_path / "trial-0")
    made.create(make_spec())
    return made
