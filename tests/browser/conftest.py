"""Finds a Chromium and opens pages in it without a window; its tests are skipped where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True)
class Browser:
    """A Chromium with an empty profile; `width` and `height` are those of the window, in pixels."""

    program: str
    profile: Path
    patience_ms: int = 30_000  # of the page's own clock

    def dom(self, address: str, width: int = 1440, height: int = 900) -> str:
        """Return the document after its scripts have run, as HTML."""
        return self._run(address, width, height, "--dump-dom")

    def screenshot(self, address: str, file: Path, width: int = 1440, height: int = 900) -> None:
        """Write the window as PNG."""
        self._run(address, width, height, f"--screenshot={file}")

    def _run(self, address: str, width: int, height: int, *options: str) -> str:
        command = [
            self.program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={self.profile}", f"--window-size={width},{height}",
            f"--virtual-time-budget={self.patience_ms}", f"--timeout={2 * self.patience_ms}", *options, address,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    program = next((found for name in NAMES if (found := shutil.which(name))), None) or os.environ.get("CHROMIUM")
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed, and CHROMIUM names none")
    return Browser(program, tmp_path / "profile")
