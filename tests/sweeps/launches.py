"""Starts real launches, as `python -m sweeps.stage4` does; none outlives its test."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import psutil

STARTED: list[subprocess.Popen[str]] = []


def begin(root: Path, study: str, *arguments: str, log: Path | None = None) -> subprocess.Popen[str]:
    """Start a study's command line in `root`; its two outputs are one pipe, or a file."""
    command = [sys.executable, "-m", f"sweeps.{study}", *arguments]
    with log.open("w", encoding="utf-8") if log else nullcontext(subprocess.PIPE) as output:
        process = subprocess.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT, text=True)
    STARTED.append(process)
    return process


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a driver and all its child processes, like a power failure."""
    everyone = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in reversed(everyone):
        if one.is_running():
            one.kill()
    process.communicate(timeout=60)


def kill_left() -> list[str]:
    """Kill the launches that still run; returns their command lines."""
    left = [process for process in STARTED if process.poll() is None]
    STARTED.clear()
    for process in left:
        kill(process)
    return [" ".join(map(str, process.args[1:])) for process in left]
