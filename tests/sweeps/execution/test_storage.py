"""Tests that all adapters are kept where there is space, and the best alone where it is short, with a reason."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sweeps.execution.storage import RESERVE_BYTES, AdapterBytes, check_not_full, kept_adapters
from trainables.errors import InfrastructureError

SIZE = AdapterBytes(needed=24_000_000, evals=8_000_000, adapters=40)
ENOUGH = RESERVE_BYTES + 32_000_000


def test_space_is_enough_to_the_byte() -> None:
    assert kept_adapters(None, None, SIZE, ENOUGH).keep == "all"
    assert (
        kept_adapters(None, None, SIZE, ENOUGH).text == "Records keep the adapter of every eval (40 adapters, 8.0 MB)."
    )
    short = kept_adapters(None, None, SIZE, ENOUGH - 1)
    assert short.keep == "best"
    assert short.text.startswith("Space is short: 232 MB must be free to keep the adapter of every eval (40 adapters")
    assert kept_adapters("all", None, SIZE, ENOUGH - 1).keep == "best"


@pytest.mark.parametrize(
    ("asked", "begun", "kept", "why"),
    [("best", "all", "best", "as asked"), (None, "best", "best", "as this experiment began"),
     ("all", "best", "all", "every eval"), (None, "all", "all", "every eval")],
)  # fmt: skip
def test_what_is_asked_is_before_what_began(asked: object, begun: object, kept: str, why: str) -> None:
    found = kept_adapters(asked, begun, SIZE, ENOUGH)  # type: ignore[arg-type] plain texts of the table
    assert found.keep == kept
    assert ("cannot be shipped, rescaled or asked more rows" in found.text) is (kept == "best")
    assert why in found.text


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "is full"), (errno.EDQUOT, "is full"), (errno.EIO, "is not: Input/output error"),
     (errno.EROFS, "is not: Read-only file system"), (errno.ESTALE, "is not: Stale file handle")],
)  # fmt: skip
def test_a_storage_that_fails_while_trials_run_is_one_sentence_and_exit_code_6(
    number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_not_full(tmp_path)

    def fails(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.TemporaryFile", fails)
    with pytest.raises(InfrastructureError, match=said) as refused:
        check_not_full(tmp_path)
    assert refused.value.exit_code == 6 and "--resume" in str(refused.value.hint)


def test_a_storage_that_was_deleted_is_not_called_full(tmp_path: Path) -> None:
    check_not_full(tmp_path / "deleted")
