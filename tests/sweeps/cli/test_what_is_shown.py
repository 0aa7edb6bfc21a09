"""What a person sees while a launch works: at 80x24 on a terminal, and in a log; nothing is silent for long."""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pytest
from launches import kill

ROOT = Path(__file__).parents[3]
STAMP = re.compile(r"\d\d:\d\d:\d\d ")
WIDE = ("--only", "A1,B2", "--rank", "8,16", "--lr", "1e-4,3e-4", "--quant", "nf4-double,none", "--seeds", "2")
MOST_SILENT_SECONDS = 5.0


@dataclass(frozen=True)
class Seen:
    """What a command wrote, its exit code, and the pauses between what it wrote, each with what came after it."""

    text: str
    code: int
    pauses: tuple[tuple[float, str], ...]

    @property
    def lines(self) -> list[str]:
        """Return the lines as they were written."""
        return self.text.splitlines()


def watched(words: Sequence[str], directory: Path, terminal: bool, seconds: float) -> Seen:
    """Run `footprint` in a terminal of 80x24, or in a pipe, and note when it writes."""
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "PYTHONUNBUFFERED": "1"}
    ours, theirs = pty.openpty() if terminal else os.pipe()
    if terminal:
        ioctl(ours, TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-c", "from sweeps.cli.footprint import main; main()", *words]
    began = last = time.monotonic()
    chunks, pauses = [], []
    with subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=theirs,
                          stderr=theirs, text=True) as process:  # fmt: skip
        os.close(theirs)
        try:
            while (chunk := os.read(ours, 65536)) and time.monotonic() - began < seconds:
                pauses.append((time.monotonic() - last, chunk.decode(errors="replace")[-120:]))
                last = time.monotonic()
                chunks.append(chunk)
        except OSError:  # Linux raises it when the terminal has no writer
            pass
        os.close(ours)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:  # it took longer than `seconds`
            kill(process)
    return Seen(b"".join(chunks).decode(), process.returncode, tuple(pauses))


def on_paper(text: str) -> str:
    """Return the text of a terminal without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False])
def test_a_wide_plan_is_whole_at_eighty_columns(terminal: bool, tmp_path: Path) -> None:
    seen = watched(["stage4", "--dry-run", *WIDE], tmp_path, terminal, 500)
    assert seen.code == 0, seen.text[-2000:]
    text = on_paper(seen.text)
    table = text[text.index("trial ") : text.index("All trained trials:")]
    assert "…" not in table and "adapter" in table
    assert all(len(line) <= 80 for line in table.splitlines())
    assert "\x1b" in seen.text if terminal else "\x1b" not in seen.text and "\r" not in seen.text


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("terminal", [True, False])
def test_a_launch_is_never_silent_for_long_and_says_its_phases(terminal: bool, tmp_path: Path) -> None:
    seen = watched(["smoke"], tmp_path, terminal, 1700)
    assert seen.code == 0, seen.text[-2000:]
    # before the first line Python starts, and after the last it ends; a machine that does more than this is slower
    share = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    silent = [one for one in seen.pauses[1:] if one[0] > MOST_SILENT_SECONDS * share]
    assert silent == []
    text = on_paper(seen.text)
    for phase in ("importing", "planning", "reading the rows", "starting Ray", "ending Ray"):
        assert phase in text
    assert ("self-test" in text and "training" in text) or "step " in text
    if not terminal:
        assert "\x1b" not in seen.text and "\r" not in seen.text
        said = [line for line in seen.lines if "trials ended" in line or "starting" in line]
        assert said and all(STAMP.match(line) for line in said)
