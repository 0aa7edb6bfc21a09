"""Tests the chart as PNG."""

from __future__ import annotations

from analysis.charts.chart import Chart
from analysis.charts.png import write_png


def test_the_picture_is_drawn(crowded: Chart, tmp_path):
    from matplotlib.image import imread

    write_png(crowded, tmp_path / "pareto.png")
    pixels = imread(tmp_path / "pareto.png")
    assert pixels.shape[0] > 900 and pixels.shape[1] > 1500
    frontier_blue = (abs(pixels[..., :3] - [0.0, 0x72 / 255, 0xB2 / 255]).sum(axis=2) < 0.02).sum()
    assert frontier_blue > 100
