"""Tests that packing is refused before the launch if a training row has a picture."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planned_trials import trial
from scanned_rows import row, rows, scan_of

from sweeps.planning.trial_checks import check_packable
from trainables.errors import UserError

SCANNED = replace(scan_of(), train=rows("said", 5, pictures=(), image_tokens=0))
PACKED = {"packed_tokens": 4096, "max_tokens": 2048}


def test_rows_of_text_may_be_packed_and_rows_with_pictures_may_not() -> None:
    seen = replace(SCANNED, train=(*SCANNED.train, row("seen")))
    check_packable([trial(**PACKED)], SCANNED)
    check_packable([trial(), trial(**PACKED).baseline()], seen)
    with pytest.raises(UserError) as caught:
        check_packable([trial(), trial(**PACKED)], seen)
    assert "1 of 6 training rows have a picture, the first is `seen`; it is set for " in caught.value.message
    assert caught.value.exit_code == 2


def test_a_base_that_cannot_keep_rows_apart_packs_none() -> None:
    check_packable([trial(), trial(**PACKED).baseline()], SCANNED, packs_rows=False)
    with pytest.raises(UserError, match="layers of linear attention, whose state goes on from row to row"):
        check_packable([trial(**PACKED)], SCANNED, packs_rows=False)
