"""What a command does is said at once, again while it lasts, and leaves nothing on a terminal."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from trainables import progress
from trainables.progress import Part, doing, pause_seconds, reporting, say, working


def console(terminal: bool = False, quiet: bool = False) -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=terminal, quiet=quiet, highlight=False)


def written(one: Console) -> str:
    assert isinstance(one.file, io.StringIO)
    return one.file.getvalue()


def waited_for(one: Console, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in written(one) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert text in written(one)


def test_a_log_says_a_phase_at_once_and_again_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BEAT_SECONDS", 0.05)
    log = console()
    with working(log, "starting Ray"):
        assert re.fullmatch(r"\d\d:\d\d:\d\d starting Ray\n", written(log))
        waited_for(log, "starting Ray: 0 s")
    lines = written(log).splitlines()
    time.sleep(0.2)
    assert written(log).splitlines() == lines, "nothing is said when it is over"
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines) and "\x1b" not in written(log)


def test_the_end_of_a_part_makes_no_silence_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that ends says nothing, so the next line is due by the last one that was said."""
    monkeypatch.setattr(progress, "BEAT_SECONDS", 2.5)
    log, said = console(), []
    with working(log, "planning"):
        with doing("reading"):
            began = time.monotonic()
            time.sleep(2.4)
        waited_for(log, "planning: 2 s")
        said.append(time.monotonic() - began)
    assert said[0] < 4.4, "after 2.5 s, and not 4.9 s"


def test_a_part_says_how_much_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BEAT_SECONDS", 0.05)
    log = console()
    with working(log, "planning"), doing("hashing base", 8e6, "bytes") as advance:
        advance(2e6)
        waited_for(log, "hashing base: 2.0 of 8.0 MB, ")
    assert [line[9:] for line in written(log).splitlines()][:2] == ["planning", "hashing base"]


def test_a_phase_that_fails_ends_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BEAT_SECONDS", 0.02)
    log = console()
    with pytest.raises(KeyboardInterrupt), working(log, "reading"):
        raise KeyboardInterrupt
    said = written(log)
    time.sleep(0.1)
    assert written(log) == said
    with working(log, "again"):
        pass
    assert "again" in written(log)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_quiet_console_stays_silent(terminal: bool) -> None:
    one = console(terminal, quiet=True)
    with working(one, "reading"), doing("hashing", 10):
        say(one, "said")
    assert written(one) == ""


def test_a_terminal_has_a_line_that_moves_and_goes_and_a_bar_where_the_size_is_known() -> None:
    terminal = console(terminal=True)
    with working(terminal, "planning"), doing("downloading org/base", 4e6, "bytes") as advance:
        advance(1e6)
        waited_for(terminal, "1.0 of 4.0 MB")
    assert "━" in written(terminal)
    assert written(terminal).endswith("\x1b[2K") or "\x1b[1A\x1b[2K" in written(terminal), "the line is removed"


def test_without_a_phase_work_is_silent_and_with_a_listener_it_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with doing("loading", 2) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")
    seen: list[tuple[str, float | None]] = []
    with reporting(lambda part: seen.append((part.text, part.share))), doing("loading", 2) as advance:
        advance(1)
    assert seen == [("loading", 0.0), ("loading", 0.5)]


def test_a_long_phase_is_said_less_often() -> None:
    assert pause_seconds(0.0) < 5.0
    assert pause_seconds(3600.0) == 60.0
    assert Part("x", began_seconds=0.0).line(185.0) == "x: 3 min 5 s"


class Cell:
    """What a notebook shows of one output, one text after another."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, bundle: dict[str, str], **options: object) -> Cell:
        assert options == {"raw": True, "display_id": True} and not self.texts, "one output, which is replaced"
        return self.update(bundle, raw=True)

    def update(self, bundle: dict[str, str], raw: bool) -> Cell:
        assert raw and bundle["text/html"].startswith("<pre")
        self.texts.append(bundle["text/plain"])
        return self


def test_in_a_notebook_one_output_is_replaced_and_says_in_the_end_how_long_it_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell, log = Cell(), console()
    monkeypatch.setattr(progress, "CELL_SECONDS", 0.02)
    monkeypatch.setattr(progress, "display_in_notebook", lambda: cell)
    with working(log, "planning"), doing("hashing", 8e6, "bytes") as advance:
        advance(4e6)
        deadline = time.monotonic() + 10
        while "hashing: 4.0 of 8.0 MB, 0 s" not in cell.texts and time.monotonic() < deadline:
            time.sleep(0.01)
    assert cell.texts[:2] == ["planning", "hashing"] and "hashing: 4.0 of 8.0 MB, 0 s" in cell.texts
    assert cell.texts[-1] == "planning: 0 s" and written(log) == ""


def test_a_quiet_notebook_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell()
    monkeypatch.setattr(progress, "display_in_notebook", lambda: cell)
    with working(console(quiet=True), "planning"):
        pass
    assert cell.texts == []
