"""The chart as values, and the files drawn from it."""

from __future__ import annotations

import math
import re
from itertools import combinations

import pytest

from analysis.charts.chart import Chart, chart_of
from analysis.charts.html import figure_of, write_page
from analysis.charts.labels import place_labels
from analysis.charts.png import write_png
from analysis.frontier import frontier_info

CHARACTER = (5.0, 11.0)


@pytest.fixture
def crowded(make_trial, make_baseline, make_experiment, objectives) -> Chart:
    reason = {"verdict_reason": "irrelevant_pass 0.71 < 0.80 for 2 evals"}
    stopped = {"verdict": "pruned(irrelevant_pass)", "verdict_kind": "pruned", "best": {}} | reason
    trials = [make_trial(f"C2-s{i}", 0.95, 0.9 + i / 100, parameters={"seed": i}) for i in range(3)]
    trials += [make_trial(f"B{i}", 1.0, 0.3 + i / 1000) for i in range(6)]
    trials += [make_trial("D3", 0.4, 0.6, **stopped), make_trial("D4", math.nan, 0.6, **stopped)]
    return chart_of(frontier_info(make_experiment(make_baseline(), *trials), objectives))


def test_every_measured_placement_is_a_mark_and_nothing_else_is(crowded: Chart):
    assert sorted(mark.label.split()[0] for mark in crowded.marks) == ["A0", *(f"B{i}" for i in range(6)), "C2", "D3"]
    assert {mark.kind for mark in crowded.marks} == {"frontier", "baseline", "dominated", "excluded"}
    assert len(crowded.seeds) == 3
    assert crowded.floor == 0.8


def test_error_bars_are_the_seeds(crowded: Chart):
    spans = {mark.label.split()[0]: mark.spans for mark in crowded.marks}
    assert spans["C2"] is not None
    assert spans["C2"][1] == pytest.approx((0.90, 0.92))
    assert spans["B1"] is None


def test_labels_cover_neither_each_other_nor_leave_the_area():
    points = [(300.0, 200.0), (303.0, 202.0), (306.0, 200.0), (2.0, 2.0), (598.0, 398.0), (300.0, 205.0)]
    texts = ["C2 L2·V4", "C3 L2·V6", "D1 L4·V2", "A0 L0·V0", "B3 L0·V6", "D2 L4·V4"]
    offsets = place_labels(points, texts, (600.0, 400.0), CHARACTER)
    boxes = []
    for (x, y), (right, up), text in zip(points, offsets, texts, strict=True):
        half = (len(text) * CHARACTER[0] / 2, CHARACTER[1] / 2)
        boxes.append((x + right - half[0], y + up - half[1], x + right + half[0], y + up + half[1]))
    for left, bottom, right, top in boxes:
        assert left >= 0 and bottom >= 0 and right <= 600 and top <= 400
    for one, other in combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_third_objective_draws_no_line(make_trial, make_baseline, make_experiment):
    from analysis.objectives import frontier_objectives

    experiment = make_experiment(make_baseline(), make_trial("C2"), make_trial("B1", 1.0, 0.4))
    two = frontier_info(experiment, frontier_objectives("irrelevant_pass", "exact_match", ()))
    three = frontier_info(experiment, frontier_objectives("irrelevant_pass", "exact_match", ["adapter_parameters"]))
    assert chart_of(two).step == ((1.0, 0.4), (0.95, 0.4), (0.95, 0.9))
    assert chart_of(three).step == ()


def test_the_picture_is_drawn(crowded: Chart, tmp_path):
    from matplotlib.image import imread

    write_png(crowded, tmp_path / "pareto.png")
    pixels = imread(tmp_path / "pareto.png")
    assert pixels.shape[0] > 900 and pixels.shape[1] > 1500
    frontier_blue = (abs(pixels[..., :3] - [0.0, 0x72 / 255, 0xB2 / 255]).sum(axis=2) < 0.02).sum()
    assert frontier_blue > 100


def test_the_plotly_figure_holds_every_kind_and_its_labels(crowded: Chart):
    figure = figure_of(crowded)
    assert {trace.name for trace in figure.data} >= {"on the frontier", "baseline (no adapter)", "frontier"}
    texts = {annotation.text for annotation in figure.layout.annotations}
    assert {"C2 L2·V4", "guard 0.8"} <= texts


def test_the_page_needs_no_network_and_a_name_cannot_break_out_of_it(
    make_trial, make_baseline, make_experiment, objectives, tmp_path
):
    nasty = make_trial("C2</script><script>alert(1)</script>")
    write_page(frontier_info(make_experiment(make_baseline(), nasty), objectives), tmp_path / "pareto.html")
    page = (tmp_path / "pareto.html").read_text(encoding="utf-8")
    own = page[: page.index("<script")] + page[page.rindex("Plotly.newPlot(") :]
    assert not re.search(r"<(script|img|iframe)[^>]*\ssrc=|<link\b", page)
    assert "alert(1)" in own
    assert "<script>alert" not in page
    assert "What this does not know" in page
