"""Tests the live output: the stop line, plain lines without a terminal, and a table of 80 columns and 24 lines."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from sweeps.display import live_table
from sweeps.display.live_table import LiveTable
from sweeps.display.trial_rows import stop_line
from trainables.io.files import write_json
from trainables.phase import PhaseFile
from trainables.record import Measurement, Record
from trainables.record_labels import labels_of
from trainables.verdict import Verdict, VerdictKind

REASON = "irrelevant_pass 0.71 < 0.80 for 2 evals (baseline 1.00)"


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=80, height=24, force_terminal=terminal, color_system=None)


def printed(board: LiveTable) -> str:
    assert isinstance(board.console.file, io.StringIO)
    return board.console.file.getvalue()


def written(board: LiveTable) -> str:
    """Return what was printed, without the time of day before a line."""
    return re.sub(r"^\d\d:\d\d:\d\d ", "", printed(board), flags=re.MULTILINE)


def end(record: Record, kind: VerdictKind, minimum: bool, optimal: bool, *degraded: str) -> None:
    """Close a trial as the engine does: labels first, then the verdict."""
    met = {"minimum": {"met": minimum}, "optimal": {"met": optimal}}
    write_json(record.directory / "labels.json", {**met, "degraded": [{"check": check} for check in degraded]})
    record.close(Verdict(kind=kind, step=60))


def test_the_stop_line_names_metric_limit_and_baseline() -> None:
    verdict = Verdict(kind="pruned", step=80, cause="irrelevant_pass", reason=REASON)
    assert stop_line("C3", verdict) == f"pruned C3 @ step 80: {REASON}"


def test_without_a_terminal_every_eval_is_one_line(make_record: Callable[..., Record]) -> None:
    record = make_record()
    board = LiveTable(console(terminal=False), [record])
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


def test_trials_that_go_on_after_a_lost_engine_are_one_line(make_record: Callable[..., Record]) -> None:
    records = [make_record(name=f"C{number}") for number in range(6)]
    records[0].append(Measurement("eval", 80, {"eval_loss": 0.25}))
    board = LiveTable(console(terminal=False), records)
    board.retried(records, "The actor died unexpectedly before finishing this task.")
    assert written(board) == (
        "tried again: C0 @ step 80, C1 @ step 60, C2 @ step 60, C3 @ step 60 and 2 more, "
        "because of: The actor died unexpectedly before finishing this task.\n"
    )


def test_the_live_table_of_a_text_model_shows_text_metrics(make_record: Callable[..., Record]) -> None:
    record = make_record("E0", 1, 0, steps=())
    board = LiveTable(console(terminal=False), [record])
    with board:
        metrics = {"eval_loss": 0.25, "exact_match": 0.5, "text_retention": 0.91, "dangerous_rate": 0.02}
        record.append(Measurement("eval", 80, metrics))
        board.advanced(record)
        board.console.print(board.shown())
    line, header, *_ = written(board).splitlines()
    assert "text 0.91 danger 0.02" in line and "irrel" not in line
    assert header.split() == ["trial", "place", "loss", "exact", "text", "danger", "now"]


def test_the_table_fits_80_columns(make_record: Callable[..., Record]) -> None:
    board = LiveTable(console(terminal=True), [make_record()])
    with board:
        pass
    assert max(len(line) for line in written(board).splitlines()) <= 81
    assert "1 trials ended" in written(board)


def drawn(board: LiveTable) -> list[str]:
    """Return the lines of the table as it is now."""
    paper = console(terminal=False)
    paper.print(board.shown())
    assert isinstance(paper.file, io.StringIO)
    return paper.file.getvalue().splitlines()


def many(make_record: Callable[..., Record]) -> list[Record]:
    return [make_record(f"C2-s{seed}", steps=(), vision=2 + seed) for seed in range(34)]


def test_each_trial_shows_the_phase_that_its_worker_wrote(make_record: Callable[..., Record]) -> None:
    records = many(make_record)[:5]
    board = LiveTable(console(terminal=True), records)
    for record in records[:4]:
        board.started(record)
        board.assigned(record, "engine")
    for record, phase in zip(records, ("loading", "self-test", "training", "eval", "training"), strict=True):
        PhaseFile(record.directory).show(phase, 13)
    states = [line.split("-  ")[-1].strip() for line in drawn(board)[1:6]]
    assert states == ["loading", "self-test", "step 13 of 120", "eval at step 13", "waiting"], "the last is not started"
    assert "1 loading, 1 self-test, 1 training, 1 eval, 1 waiting" in drawn(board)[-1]


@pytest.mark.parametrize("ended", [0, 5, 20, 34])
@pytest.mark.parametrize("running", [0, 3, 14])
def test_34_trials_keep_their_footer_on_24_lines(make_record: Callable[..., Record], ended: int, running: int) -> None:
    records = many(make_record)
    for record in records[:ended]:
        record.close(Verdict(kind="completed", step=120))
    board = LiveTable(console(terminal=True), records)
    for record in records[ended : ended + running]:
        board.started(record)
        PhaseFile(record.directory).show("training", 7)
    lines = drawn(board)
    assert len(lines) < 24 and f"{ended}/34 trials ended" in lines[-1]
    assert not ended or f"… {ended} ended: {ended} completed" in lines
    moving = sum("step 7 of 120" in line for line in lines)
    assert moving == min(running, 34 - ended)


def test_more_running_trials_than_lines_are_counted(make_record: Callable[..., Record]) -> None:
    records = many(make_record)
    board = LiveTable(console(terminal=True), records)
    for number, record in enumerate(records):
        board.started(record)
        PhaseFile(record.directory).show("training", number)
    lines = drawn(board)
    assert len(lines) < 24 and "… 14 more running, at steps 20 to 33" in lines


def test_the_table_moves_without_a_report_and_eval_lines_stay_above_it(make_record: Callable[..., Record]) -> None:
    record = make_record(steps=())
    board = LiveTable(console(terminal=True), [record])
    with board:
        board.started(record)
        PhaseFile(record.directory).show("training", 41)
        deadline = time.monotonic() + 10
        while "step 41 of 120" not in written(board) and time.monotonic() < deadline:
            time.sleep(0.05)
        record.append(Measurement("eval", 80, {"eval_loss": 0.25, "exact_match": 0.5}))
        board.advanced(record)
    assert "step 41 of 120" in written(board)
    assert "80/120 loss 0.250" in written(board)


def test_without_a_terminal_the_progress_is_a_line_now_and_then(
    make_record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_table, "LOOK_SECONDS", 0.05)
    board = LiveTable(console(terminal=False), [make_record(steps=())])
    with board:
        deadline = time.monotonic() + 10
        while not written(board) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert written(board).startswith("0/1 trials ended, 1 waiting, ")
    assert "\x1b" not in written(board)


def test_a_log_says_each_phase_when_it_is_first_seen_and_is_never_silent_for_five_seconds(
    make_record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_table, "LOOK_SECONDS", 0.05)
    record = make_record(steps=())
    board = LiveTable(console(terminal=False), [record])
    wanted = {
        "loading": "1 loading (50%)", "self-test": "1 self-test", "calibration": "1 calibration",
        "training": "1 training (step 3 of 120)", "eval": "1 eval",
    }  # fmt: skip
    with board:
        board.started(record)
        for phase, text in wanted.items():
            shown = PhaseFile(record.directory)
            shown.show(phase, 3, 0.5 if phase == "loading" else None)  # type: ignore[arg-type] a phase's name
            deadline = time.monotonic() + 10
            while text not in written(board) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert text in written(board)
    lines = written(board).splitlines()
    assert len(lines) < 2 * len(wanted), "an unchanged phase is not repeated at every look"


def test_a_log_repeats_a_phase_within_five_seconds_and_later_every_minute() -> None:
    assert live_table.pause_seconds(0.0) + live_table.LOOK_SECONDS <= 5.0
    assert live_table.pause_seconds(3600.0) == 60.0


def test_a_base_that_is_loaded_has_a_bar(make_record: Callable[..., Record]) -> None:
    record = make_record(steps=())
    board = LiveTable(console(terminal=True), [record])
    board.started(record)
    PhaseFile(record.directory).show("loading", share=0.3)
    board.console.print(board.shown())
    assert "loading ━━━╌╌╌╌╌╌╌ 30%" in written(board)


def test_the_time_left_follows_the_clock(make_record: Callable[..., Record]) -> None:
    record, now = make_record(steps=()), [100.0]
    board = LiveTable(console(terminal=True), [record], clock=lambda: now[0])
    board.started(record)
    assert "left" not in board.progress_line()
    PhaseFile(record.directory).show("training", 0)
    assert "left" not in board.progress_line(), "no step is done"
    PhaseFile(record.directory).show("training", 30)
    now[0] += 60
    assert board.progress_line() == (
        "0/1 trials ended, 1 training (step 30 of 120), 1 min 0 s so far, about 3 min 0 s left"
    )


def test_steps_that_were_done_before_the_first_look_do_not_make_a_trial_endlessly_fast(
    make_record: Callable[..., Record],
) -> None:
    """A log without a terminal looks once a minute; it said `about 0 s left` after the first."""
    record, now = make_record(steps=()), [0.0]
    board = LiveTable(console(terminal=False), [record], clock=lambda: now[0])
    board.started(record)
    PhaseFile(record.directory).show("training", 20)
    now[0] += 60
    assert "left" not in board.progress_line()
    PhaseFile(record.directory).show("training", 60)
    now[0] += 60
    assert "about 1 min 30 s left" in board.progress_line()


def test_the_steps_of_an_earlier_launch_count_for_nothing(make_record: Callable[..., Record]) -> None:
    record, now = make_record(steps=(60,)), [0.0]
    board = LiveTable(console(terminal=True), [record], clock=lambda: now[0])
    board.started(record)
    PhaseFile(record.directory).show("training", 60)
    board.progress_line()
    now[0] += 30
    PhaseFile(record.directory).show("training", 75)
    assert "about 1 min 30 s left" in board.progress_line()


@pytest.mark.parametrize("name", ["C2", "C2-lr0.0005"])
def test_a_finished_trial_shows_its_criteria_and_caveats(make_record: Callable[..., Record], name: str) -> None:
    record, whole = make_record(name, vision=4), make_record("B1", 0, 2)
    write_json(record.directory / "overridden.json", [{"check": "coverage"}])
    end(record, "completed", True, True, "gradient_spikes")
    end(whole, "completed", True, False)
    board = LiveTable(console(terminal=True), [record, whole])
    board.console.print(board.shown())
    marked, plain, *caption = written(board).splitlines()[1:]
    assert f"{name}†‡ " in marked and "completed @ 60, optimal" in marked and "L2-V4  0.060" in marked
    assert "B1 " in plain and "completed @ 60, minimum" in plain
    legend = ["optimal, minimum, none: success criteria met", "† degraded; ‡ started with --force"]
    assert [line.strip() for line in caption[1:]] == legend


def test_when_80_columns_are_too_few_only_the_verdict_is_shortened(make_record: Callable[..., Record]) -> None:
    record = make_record("C2-lr0.0005-nf4-s2")
    record.close(Verdict(kind="pruned", step=60, cause="irrelevant_pass", reason=REASON))
    board = LiveTable(console(terminal=True), [record])
    board.console.print(board.shown())
    cut = written(board).splitlines()[1]
    assert "C2-lr0.0005-nf4-s2  L2-V2  0.060 " in cut and "pruned(irrelevant" in cut and cut.count("…") == 1


def test_without_labels_there_is_no_legend(make_record: Callable[..., Record]) -> None:
    board = LiveTable(console(terminal=True), [make_record()])
    board.console.print(board.shown())
    assert len(written(board).splitlines()) == 3


@pytest.mark.parametrize(
    ("minimum", "optimal", "criteria"),
    [(False, False, "none"), (True, False, "minimum"), (True, True, "optimal"), (False, True, "none")],
)
def test_the_highest_met_criterion_is_the_label(
    make_record: Callable[..., Record], minimum: bool, optimal: bool, criteria: str
) -> None:
    record = make_record()
    end(record, "pruned", minimum, optimal)
    assert labels_of(record) == {"criteria": criteria}


def test_labels_of_a_trial_that_broke_after_them_do_not_count(make_record: Callable[..., Record]) -> None:
    record = make_record()
    end(record, "invalid", True, True, "gradient_spikes")
    assert labels_of(record) == {}


def test_a_check_is_named_once(make_record: Callable[..., Record]) -> None:
    record = make_record()
    findings = [{"check": check} for check in ("encoding", "labels", "encoding")]
    write_json(record.directory / "overridden.json", findings)
    assert labels_of(record) == {"overridden": "encoding,labels"}


def test_lines_that_come_together_are_printed_by_one_drawing_and_none_is_lost(
    make_record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    board, drawings = LiveTable(console(terminal=True), [make_record()]), []
    shown = board.shown
    monkeypatch.setattr(board, "shown", lambda: (drawings.append(None), shown())[1])
    with board:
        for number in range(200):
            board.note(f"line {number} ends")
    text = written(board)
    assert all(f"line {number} ends" in text for number in range(200))
    assert len(drawings) < 20, "each drawing of a table of thousands of trials takes a tenth of a second"
    board.note("after the end")
    assert written(board).endswith("after the end\n")


def test_the_last_table_of_many_trials_counts_those_that_ended(make_record: Callable[..., Record]) -> None:
    records = [make_record(f"C2-s{seed}", steps=(), vision=2 + seed) for seed in range(live_table.MOST_LINES + 5)]
    for record in records:
        record.close(Verdict(kind="completed", step=120))
    board = LiveTable(console(terminal=True), records)
    with board:
        pass
    assert drawn(board)[-2:] == ["… 205 ended: 205 completed", drawn(board)[-1]]


def test_a_line_in_a_log_begins_with_the_time_of_day_and_one_on_a_terminal_does_not() -> None:
    for is_terminal in (False, True):
        board = LiveTable(console(is_terminal), [])
        board.note("C2 ended")
        assert bool(re.match(r"\d\d:\d\d:\d\d C2 ended", printed(board))) is not is_terminal
