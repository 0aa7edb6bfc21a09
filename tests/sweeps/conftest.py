"""A database of MLflow for each test, and records as trials write them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from launches import kill_left
from trial_records import running_record

from trainables.record import Record


@pytest.fixture
def database(migrated_database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(migrated_database, tmp_path / "mlflow.db"))


@pytest.fixture
def make_record(tmp_path: Path) -> Callable[..., Record]:
    """Make records of the study `stage4` below `tmp_path`; the arguments are those of `running_record`."""
    return partial(running_record, tmp_path)


@pytest.fixture(autouse=True)
def _no_launch_outlives_its_test() -> Iterator[None]:
    """Kill what a failed test has started: a launch left behind slows all tests after it."""
    yield
    kill_left()


@pytest.fixture(scope="module", autouse=True)
def _commands_copy_the_miniature(miniature_drawn_once: None) -> None:
    """Most of these tests plan a study, which writes the miniature."""
