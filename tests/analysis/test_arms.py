"""Tests that trials are grouped by their arm's tag, whatever characters the arm's name contains."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from analysis.charts.chart import chart_of
from analysis.frontier import FrontierInfo, frontier_info
from analysis.mlflow_runs import read_experiment
from analysis.report.conclusions import conclusion
from analysis.report.exporting import settings_of_winners
from analysis.report.tables import as_csv, as_json, as_markdown
from analysis.report.winners_json import as_winners_json
from trainables.io.files import write_json
from trainables.record import Record
from trainables.spec import Placement, Source, TrialSpec

LAYERS = {"language_layers": 1, "vision_blocks": 0}
ATTENTION = [(0.95, 0.90), (0.96, 0.91), (0.94, 0.92)]
ALL = [(0.90, 0.95), (0.91, 0.96), (0.89, 0.97)]


def leave_record(directory: Path, name: str) -> None:
    sources = {key: Source(path=Path(f"/data/{key}"), sha256=key) for key in ("base", "train", "validation", "ood")}
    record = Record(directory)
    record.create(TrialSpec(name=name, placement=Placement(language=1), **sources))
    tower = {"modules": ["model.language_model.layers.7.self_attn.q_proj"], "parameters": 1}
    write_json(directory / "placement.json", {"language": tower, "vision": {"modules": [], "parameters": 0}})


@pytest.fixture
def info(store, objectives, tmp_path: Path) -> FrontierInfo:
    """Two arms of one placement that differ in their target modules only, three seeds each."""
    store.trial("A0", {"language_layers": 0, "vision_blocks": 0}, last={"irrelevant_pass": 1.0, "exact_match": 0.1})
    for arm, values in (("L1-attention", ATTENTION), ("L1-all", ALL)):
        for seed, (x, y) in enumerate(values):
            name = f"{arm}-s{seed}"
            run_id = store.completed(name, x, y, arm=arm, seed=seed, **LAYERS)
            store.client.set_tag(run_id, "record", str(tmp_path / "trials" / name))
            leave_record(tmp_path / "trials" / name, name)
    return frontier_info(read_experiment("stage4", store.uri), objectives)


def test_an_arm_with_a_hyphen_is_one_placement_of_its_seeds(info: FrontierInfo):
    seeds = {one.placement.label: [run.seed for run in one.placement.seed_runs] for one in info.results}
    assert seeds == {"L1-all": [0, 1, 2], "L1-attention": [0, 1, 2], "A0": [0]}
    (attention,) = (one for one in info.results if one.placement.label == "L1-attention")
    assert attention.on_frontier and attention.estimates[1].mean == pytest.approx(0.91)
    assert attention.probability is not None, "three seeds allow an estimate of the spread"


def test_the_tables_have_a_row_for_it(info: FrontierInfo):
    rows = {row["placement"]: row for row in csv.DictReader(io.StringIO(as_csv(info)))}
    assert (rows["L1-attention"]["seeds"], rows["L1-attention"]["exact_match_maximum"]) == ("3", "0.92")
    trials = {one["placement"]: len(one["trials"]) for one in json.loads(as_json(info))["placements"]}
    assert trials == {"L1-all": 3, "L1-attention": 3, "A0": 1}
    assert as_markdown(info).count("| L1-attention L1·V0 |") == 1
    assert conclusion(info)[0].startswith("Ship L1-all L1·V0: exact_match 0.960")


def test_the_chart_has_a_mark_for_it_and_a_dot_for_each_seed(info: FrontierInfo):
    chart = chart_of(info)
    labels = [mark.label for mark in chart.marks if mark.kind != "baseline" and mark.spans]
    assert sorted(labels) == ["L1-all L1·V0", "L1-attention L1·V0"]
    assert sorted(chart.seeds) == sorted([*ATTENTION, *ALL])


def test_the_exports_name_it_once(info: FrontierInfo, tmp_path: Path):
    winners = {one["name"]: one["records"] for one in json.loads(as_winners_json(info))["winners"]}
    assert winners["L1-attention"] == [str(tmp_path / "trials" / f"L1-attention-s{seed}") for seed in range(3)]
    assert sorted(winners) == ["L1-all", "L1-attention"]
    assert sorted(settings_of_winners(info, "axolotl")) == ["L1-all.axolotl.yaml", "L1-attention.axolotl.yaml"]


def test_the_tag_decides_and_not_the_name(store, objectives):
    for seed in range(2):
        store.completed(f"renamed{seed}", 0.9, 0.9, arm="L1-attention", seed=seed, **LAYERS)
    info = frontier_info(read_experiment("stage4", store.uri), objectives)
    assert [(one.placement.arm, len(one.placement.seed_runs)) for one in info.results] == [("L1-attention", 2)]


def test_without_the_tag_the_arm_is_read_from_the_name(store, objectives):
    for seed in range(3):
        store.completed(f"C2-s{seed}", 0.9, 0.9, arm="", seed=seed, **LAYERS)
    info = frontier_info(read_experiment("stage4", store.uri), objectives)
    assert [(one.placement.arm, len(one.placement.seed_runs)) for one in info.results] == [("C2", 3)]
