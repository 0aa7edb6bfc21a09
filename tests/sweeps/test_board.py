"""What a person sees: the stop line, a plain line where there is no terminal, a table of 80 columns."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console

from sweeps.board import Board, stop_line
from trainables.record import Measurement, Record, Verdict

REASON = "irrelevant_pass 0.71 < 0.80 for 2 evals (baseline 1.00)"


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)


def written(board: Board) -> str:
    assert isinstance(board.console.file, io.StringIO)
    return board.console.file.getvalue()


def test_the_stop_line_reads_like_the_briefs() -> None:
    verdict = Verdict(kind="pruned", step=80, cause="irrelevant_pass", reason=REASON)
    assert stop_line("C3", verdict) == f"pruned C3 @ step 80: {REASON}"


def test_without_a_terminal_every_eval_is_one_line(make_record: Callable[..., Record]) -> None:
    record = make_record()
    board = Board(console(terminal=False), [record])
    with board:
        board.started(record)
        metrics = {"eval_loss": 0.25, "exact_match": 0.5, "irrelevant_pass": 0.71, "hallucination": 0.0}
        record.append(Measurement("eval", 80, metrics))
        board.advanced(record)
        board.advanced(record)  # nothing new: nothing said
        record.close(Verdict(kind="pruned", step=80, cause="irrelevant_pass", reason=REASON))
        board.advanced(record)
    lines = written(board).splitlines()
    assert len(lines) == 2
    assert "0.250" in lines[0] and "0.71" in lines[0]
    assert lines[1] == f"pruned {record.spec().name} @ step 80: {REASON}"


def test_the_table_fits_80_columns(make_record: Callable[..., Record]) -> None:
    board = Board(console(terminal=True), [make_record()])
    with board:
        pass
    assert max(len(line) for line in written(board).splitlines()) <= 81
    assert "done" in written(board)
