"""Tests what the frontier reaches in draws, against counting draws point by point, and the hypervolume's interval."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from measured_experiment import Planned, baseline, write_experiment

from analysis.attained import MOST_POINTS, attained, fit_beyond, thinned, with_interval
from analysis.frontier import FrontierInfo, frontier_info
from analysis.logged_measurements import read_logged
from analysis.placement_results import Volume
from trainables.pareto import Objective, as_costs, directions_of, fronts

GENERALITY, FIT = Objective("irrelevant_pass", "higher", "fraction"), Objective("exact_match", "higher", "fraction")
LOSS = Objective("eval_loss", "lower", "nats/token")


def drawn(count: int = 400, objectives: tuple[Objective, Objective] = (GENERALITY, FIT)) -> np.ndarray:
    """Return costs of draws of three candidates that trade generality for fit: (draws, points, 2)."""
    values = np.array([[0.9, 0.3], [0.8, 0.5], [0.7, 0.7]])
    noise = 0.05 * np.random.default_rng(3).standard_normal((count, 3, 2))
    return as_costs(values + noise, directions_of(objectives))


@pytest.mark.parametrize("objectives", [(GENERALITY, FIT), (GENERALITY, LOSS)], ids=["higher", "lower"])
def test_every_point_of_a_surface_is_reached_by_its_share_of_the_draws(objectives: tuple[Objective, Objective]) -> None:
    draws = drawn(objectives=objectives)
    found = attained(fronts(draws), objectives)
    for surface in found.surfaces:
        assert 5 < len(surface.points) <= MOST_POINTS
        for point in as_costs(np.array(surface.points), directions_of(objectives)):
            share = (draws <= point + 1e-12).all(axis=2).any(axis=1).mean()
            assert share == pytest.approx(surface.share, abs=0.01)


def test_the_surest_surface_lies_inside_of_the_median_and_that_inside_of_the_furthest() -> None:
    found = attained(fronts(drawn()), (GENERALITY, FIT))
    for level in np.linspace(0.7, 0.85, 7):
        surely, median, at_most = (fit_beyond(one, level, (GENERALITY, FIT)) or -1.0 for one in found.surfaces)
        assert surely < median < at_most
    assert fit_beyond(found.surely, 0.99, (GENERALITY, FIT)) is None


def test_a_thinned_surface_keeps_its_ends_and_only_points_of_it() -> None:
    along = np.linspace(0.0, 1.0, 1000)
    surface = np.stack([along, (1.0 - along) ** 3], axis=1)
    kept = thinned(surface[::-1])
    assert len(kept) <= MOST_POINTS
    assert (kept[0] == surface[0]).all() and (kept[-1] == surface[-1]).all()
    assert {tuple(one) for one in kept} <= {tuple(one) for one in surface}
    assert np.abs(np.diff(kept, axis=0)).sum(axis=1).max() < 0.05


def test_the_interval_of_one_candidates_volume_is_that_of_the_product() -> None:
    draws = -np.random.default_rng(1).uniform(0.4, 0.6, size=(500, 1, 2))
    found = with_interval(Volume(0.25, None, (0.0, 0.0)), fronts(draws), (GENERALITY, FIT))
    low, high = np.quantile(draws.prod(axis=2), (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx((low, high))


# ---------------------------------------------------------------- in a study
@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> FrontierInfo:
    directory = tmp_path_factory.mktemp("attained")
    planned = [baseline()]
    for arm, fit, generality, vision in (("B1", 0.4, 1.0, 2), ("C1", 0.6, 0.96, 4), ("D1", 0.8, 0.7, 6)):
        planned += [
            Planned(f"{arm}-s{seed}", (fit / 2, fit), (1.0, generality), vision=vision, seed=seed, arm=arm)
            for seed in range(2)
        ]
    uri = write_experiment(directory, planned)
    logged = read_logged("stage4", uri)
    return frontier_info(logged.runs, (GENERALITY, FIT), logged.trained)


def test_a_study_states_its_volume_with_an_interval_that_holds_it(info: FrontierInfo) -> None:
    assert info.volume is not None and info.volume.low is not None and info.volume.high is not None
    assert info.volume.low < info.volume.frontier < info.volume.high


def test_the_report_and_the_json_state_interval_and_surfaces(info: FrontierInfo) -> None:
    from rich.console import Console

    from analysis.report.tables import as_json, print_report

    body = json.loads(as_json(info))
    assert body["hypervolume"]["low"] < body["hypervolume"]["frontier"] < body["hypervolume"]["high"]
    assert [one["share"] for one in body["attainment"]] == [0.975, 0.5, 0.025]
    out = io.StringIO()
    print_report(info, Console(width=200, file=out))
    assert f"(95 % of draws of rows and seeds: {body['hypervolume']['low']:.3g} to" in out.getvalue()


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_an_interval_of_the_table_stays_in_one_line(info: FrontierInfo, columns: int) -> None:
    from rich.console import Console

    from analysis.report.tables import print_report

    out = io.StringIO()
    print_report(info, Console(width=columns, file=out))
    table = out.getvalue().partition("not on the frontier")[0]
    assert table.count("[") == table.count("]") >= 2
    assert all(line.count("[") == line.count("]") for line in table.splitlines())


def test_a_share_is_never_reached_beyond_one_nor_outside_of_the_constraint(info: FrontierInfo) -> None:
    assert info.attained is not None
    points = np.array([point for one in info.attained.surfaces for point in one.points])
    assert points.max() <= 1.0 and points.min() >= 0.0
    assert points[:, 0].min() >= 0.9 - 0.03  # the baseline's own draws may lie a little below 1
    assert points[:, 1].max() < 0.8  # D1's fit is outside


def test_records_without_rows_reach_nothing_that_is_known(make_trial, make_baseline, make_experiment) -> None:
    found = frontier_info(make_experiment(make_baseline(), make_trial("C1", 0.95, 0.6)), (GENERALITY, FIT))
    assert found.attained is None
    assert found.volume is not None and found.volume.low is None


def test_a_page_draws_the_band_and_holds_its_numbers(info: FrontierInfo, tmp_path: Path) -> None:
    from analysis.charts.chart import chart_of
    from analysis.charts.html import write_page

    chart = chart_of(info)
    assert len(chart.reached) == 3
    for edge in chart.reached:  # from the worst fit to the worst generality on the axes
        assert edge[0][1] == chart.y_range[0] and edge[-1][0] == chart.x_range[0]
    write_page(info, tmp_path / "pareto.html", chart)
    page = (tmp_path / "pareto.html").read_text()
    assert page.count('<tr class="reached">') == 9
    assert "95 % band of the frontier" in page and "reached in half of the draws" in page
