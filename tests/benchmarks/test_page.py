"""Tests that the page is written from recorded figures, and that a second run keeps figures it did not measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.__main__ import write
from benchmarks.page import family_table, page


def arm(name: str, seconds: list[float], flops: float, **more: Any) -> dict[str, Any]:
    return {
        "arm": name, "flops": flops, "step_seconds": seconds, "makespan_seconds": [9.0], "eval_seconds": [1.0],
        "peak_mb": 1234.5, "loss_difference": 1e-7, "same_verdicts": True, "widths": "2", **more,
    }  # fmt: skip


def shape(**more: Any) -> dict[str, Any]:
    arms = [arm("stock", [8.0], 8e12), arm("solo", [4.0, 3.0, 5.0], 4e12), arm("apart", [4.0], 4e12),
            arm("shared", [2.0], 1.6e12), arm("batched", [2.0], 1.6e12, same_verdicts=False)]  # fmt: skip
    return {
        "title": "A shape", "steps": 6, "repeats": 3, "rows": 4, "peak_flops": None, "untrained": {"A1": 0, "B2": 32},
        "machine": {"date": "2026-01-01", "cpu": "2 cores", "gpu": "no GPU used", "threads": 2, "versions": "Python"},
        "counts": {"rows": 4, "row_tokens": 59, "prefix_tokens": 22, "labels": 40, "patches": 256},
        "stock": {name: dict.fromkeys(("whole_seconds", "load_seconds", "training_seconds", "eval_seconds"), 1.0)
                  for name in ("A1", "B2")},
        "families": {"A": {"trials": 2, "arms": arms}},
    } | more  # fmt: skip


def test_ratios_of_medians_and_of_the_flop_model_are_shown() -> None:
    lines = family_table(shape(), shape()["families"]["A"])
    assert "| 3 cohort, shared prefix | 2.000 | 4 | 2.00 | 2.50 | 80% | 9.0 | 1.0 | 1,234 | 1.0e-07 | 2 |" in lines
    assert any("4.000 (3.000–5.000)" in line for line in lines)
    assert "other verdicts" in lines[-1]


def test_the_share_of_the_peak_is_shown_where_the_peak_is_known() -> None:
    own = shape(peak_flops=8e12)
    assert family_table(own, own["families"]["A"])[-2].endswith("| 10% |")


def test_a_goal_is_shown_with_its_measured_share_of_the_model() -> None:
    text = page({"shapes": {"deep": shape()}})
    assert "| deep, A: cohort, shared prefix over alone | 80% of the FLOP model's | ≥ 85% |" in text
    assert "no gradient reaches adapters in the vision tower" in text


def test_a_run_of_one_shape_keeps_the_figures_of_another(tmp_path: Path) -> None:
    out = tmp_path / "benchmark.md"
    write(out, {"deep": shape(title="Measured first")}, None)
    text = write(out, {"mini": shape(title="Measured second")}, None)
    assert "Measured first" in text and "Measured second" in text
    assert out.read_text(encoding="utf-8") == text
    assert (tmp_path / "images" / "benchmark.png").stat().st_size > 1000
