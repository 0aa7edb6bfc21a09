"""Calls a study's command line in this process, as `python -m sweeps.stage4` would."""

from __future__ import annotations

import pytest

from sweeps.cli.study import main
from sweeps.study import Study


def invoke(study: Study, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Return the exit code of the study's command line."""
    monkeypatch.setattr("sys.argv", [f"sweeps.{study.name}", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit_info:
        main(study)
    return int(exit_info.value.code or 0)
