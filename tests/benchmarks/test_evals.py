"""Tests the benchmark of evals on few rows: both ways of an eval give equal answers, and the shares are shares."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import evals


@pytest.mark.slow
def test_the_benchmark_compares_both_ways_of_an_eval(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(evals.main)
    out = tmp_path / "found.json"
    began = time.perf_counter()
    words = ["--evals", "2", "--every", "2", "--repeats", "1", "--threads", "1", "--out", str(out)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text(encoding="utf-8"))["evals"]
    assert [one["step"] for one in found] == [2, 4] and all(one["equal"] for one in found)
    for one in found:
        assert 0 < one["decoded_tokens"] <= one["answer_tokens"]
        shares = [share for kind in one["accepted"].values() for share in kind.values()]
        assert shares and all(0.0 <= share <= 1.0 for share in shares)
        assert max(one["plain_seconds"] + one["drafted_seconds"]) < time.perf_counter() - began
    assert "last" not in found[0]["accepted"]["validation"] and "last" in found[1]["accepted"]["validation"]
