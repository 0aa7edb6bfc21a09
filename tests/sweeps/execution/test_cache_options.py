"""Tests --cache and --cache-gb, which fail before anything is spent."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.execution.cache_options import cache_settings
from trainables.errors import UserError
from trainables.frozen.settings import CacheSettings


def test_without_a_directory_activations_are_kept_in_memory() -> None:
    assert cache_settings("", 20.0) == CacheSettings(is_on=True, directory="")


def test_off_keeps_nothing() -> None:
    assert not cache_settings("off", 20.0).is_on


def test_a_directory_that_does_not_exist_is_not_created_by_the_plan(tmp_path: Path) -> None:
    found = cache_settings(str(tmp_path / "a" / "b"), 0.5)
    assert found == CacheSettings(True, str(tmp_path / "a" / "b"), 5 * 10**8)
    assert list(tmp_path.iterdir()) == []


def test_a_relative_directory_is_one_of_the_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cache_settings("frozen", 1.0).directory == str(tmp_path / "frozen")


@pytest.mark.parametrize("gigabytes", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("directory", ["", "off", "frozen"])
def test_the_limit_must_be_positive(directory: str, gigabytes: float) -> None:
    with pytest.raises(UserError, match="--cache-gb must be a positive number"):
        cache_settings(directory, gigabytes)


@pytest.mark.parametrize("below", ["", "/cache"])
def test_the_directory_must_not_be_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"--cache must be a directory, but .*file is a file"):
        cache_settings(f"{tmp_path}/file{below}", 1.0)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where not even root can make a file")
@pytest.mark.parametrize("directory", ["/proc", "/proc/new/cache"])
def test_the_directory_must_be_writable(directory: str) -> None:
    with pytest.raises(UserError, match=r"can be written, but /proc cannot"):
        cache_settings(directory, 1.0)


def test_the_check_leaves_nothing_behind(tmp_path: Path) -> None:
    cache_settings(str(tmp_path), 1.0)
    assert list(tmp_path.iterdir()) == []


def test_the_directory_is_no_address() -> None:
    with pytest.raises(UserError, match="s3:"):
        cache_settings("s3://bucket/frozen", 1.0)
