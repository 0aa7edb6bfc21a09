"""Tests the kind of each placement: feasibility first, then dominance, then separability by seeds."""

from __future__ import annotations

import pytest

from analysis.frontier import FrontierInfo, PlacementResult, frontier_info
from analysis.objectives import frontier_objectives
from trainables.errors import UserError

PRUNED = {"verdict": "pruned(irrelevant_pass)", "verdict_kind": "pruned"}
TOO_LOW = "irrelevant_pass 0.71 < 0.80 for 2 evals (baseline 1.00)"


def result(info: FrontierInfo, label: str) -> PlacementResult:
    return next(one for one in info.results if one.placement.label == label)


def seeds_of(make_trial, arm: str, values, **changes):
    return [make_trial(f"{arm}-s{i}", x, y, parameters={"seed": i}, **changes) for i, (x, y) in enumerate(values)]


def test_a_dominated_placement_names_what_dominates_it(make_trial, make_baseline, make_experiment, objectives):
    trials = make_trial("C1", 0.9, 0.8), make_trial("C2", 0.95, 0.9), make_trial("B2", 1.0, 0.4)
    info = frontier_info(make_experiment(make_baseline(), *trials), objectives)
    assert [one.placement.label for one in info.of_kind("frontier")] == ["C2", "B2"]
    assert result(info, "C1").reason == "dominated by C2"
    assert result(info, "A0").reason == "no adapter: the reference; dominated by B2"


def test_a_stopped_trial_is_never_compared(make_trial, make_baseline, make_experiment, objectives):
    """The stopped trial would dominate all others if it were compared."""
    stopped = make_trial("D3", 1.0, 1.0, verdict_reason=TOO_LOW, **PRUNED)
    info = frontier_info(make_experiment(make_baseline(), stopped, make_trial("C2")), objectives)
    assert result(info, "C2").kind == "frontier"
    assert result(info, "D3").kind == "excluded"
    assert TOO_LOW in result(info, "D3").reason


def test_a_placement_without_gain_is_not_on_the_frontier(make_trial, make_experiment, make_baseline, objectives):
    """It keeps all generality, so dominance alone would put it on the frontier."""
    nothing = make_trial("B1", 1.0, 0.1)
    info = frontier_info(make_experiment(make_baseline(x=0.99, y=0.1), nothing, make_trial("C2", 0.9)), objectives)
    assert result(info, "B1").kind == "no gain"
    assert result(info, "B1").reason == "gains nothing over the baseline: exact_match 0.1 against 0.1"
    assert result(info, "A0").on_frontier


def test_the_smallest_gain_is_enough_for_the_frontier(make_trial, make_experiment, make_baseline, objectives):
    info = frontier_info(make_experiment(make_baseline(y=0.1), make_trial("B1", 1.0, 0.1 + 1e-9)), objectives)
    assert result(info, "B1").kind == "frontier"


def test_a_gain_is_over_the_baseline_of_the_same_quantization(make_trial, make_experiment, make_baseline, objectives):
    full = make_baseline(y=0.5, trial_id="full")
    small = make_baseline(y=0.1, trial_id="small", parameters={"quantization": "nf4"})
    quantized = make_trial("C2", 0.9, 0.4, parameters={"quantization": "nf4"})
    other = make_trial("C3", 0.9, 0.4, parameters={"quantization": "int8"})
    info = frontier_info(make_experiment(full, small, quantized, other), objectives)
    assert result(info, "C2").gain == pytest.approx(0.3)
    assert result(info, "C3").gain is None


def test_a_placement_is_judged_by_the_mean_of_its_seeds(make_trial, make_experiment, make_baseline, objectives):
    """One lucky seed of C1 beats C2; its mean does not."""
    lucky = seeds_of(make_trial, "C1", [(0.95, 0.99), (0.95, 0.6), (0.95, 0.6)])
    steady = seeds_of(make_trial, "C2", [(0.95, 0.9), (0.95, 0.9), (0.95, 0.9)])
    info = frontier_info(make_experiment(make_baseline(), *lucky, *steady), objectives)
    assert result(info, "C1").kind == "dominated"
    assert result(info, "C2").estimates[1].mean == pytest.approx(0.9)
    assert result(info, "C2").probability is not None


def test_one_stopped_seed_takes_the_placement_out(make_trial, make_experiment, make_baseline, objectives):
    seeds = seeds_of(make_trial, "C2", [(0.95, 0.9), (0.96, 0.9)])
    stopped = [
        make_trial(f"C2-s{i}", parameters={"seed": i}, verdict_reason=TOO_LOW, best={}, **PRUNED) for i in (2, 3)
    ]
    info = frontier_info(make_experiment(make_baseline(), *seeds, *stopped), objectives)
    assert result(info, "C2").kind == "excluded"
    assert result(info, "C2").reason == f"pruned(irrelevant_pass) in 2 of 4 seeds (seed 2: {TOO_LOW})"


def test_a_running_seed_does_not(make_trial, make_experiment, make_baseline, objectives):
    running = make_trial("C2-s1", parameters={"seed": 1}, verdict=None, verdict_kind=None, run_status="RUNNING")
    info = frontier_info(make_experiment(make_baseline(), make_trial("C2-s0"), running), objectives)
    assert result(info, "C2").kind == "frontier"
    assert result(info, "C2").estimates[0].seeds == 1


def test_seeds_that_overlap_in_every_objective_are_not_separable(
    make_trial, make_experiment, make_baseline, objectives
):
    first = seeds_of(make_trial, "C2", [(0.95, 0.93), (0.96, 0.90), (0.94, 0.95)])
    second = seeds_of(make_trial, "C3", [(0.94, 0.91), (0.93, 0.92), (0.95, 0.89)])
    far = seeds_of(make_trial, "B2", [(1.0, 0.4), (1.0, 0.41), (1.0, 0.42)])
    info = frontier_info(make_experiment(make_baseline(), *first, *second, *far), objectives)
    assert result(info, "C3").not_separable_from == ("C2",)
    assert result(info, "B2").not_separable_from == ()


def test_one_seed_has_no_statement_on_separability(make_trial, make_experiment, make_baseline, objectives):
    info = frontier_info(make_experiment(make_baseline(), make_trial("C2"), make_trial("C3")), objectives)
    assert result(info, "C2").not_separable_from == ()
    assert result(info, "C2").probability is None


def test_lower_is_better_for_a_loss(make_trial, make_experiment, make_baseline):
    def trial(arm: str, loss: float, **changes):
        row = {"irrelevant_pass": 1.0, "eval_loss": loss}
        return make_trial(arm, last=row, best=row, **changes)

    baseline = make_baseline(last={"irrelevant_pass": 1.0, "eval_loss": 2.0})
    info = frontier_info(
        make_experiment(baseline, trial("C2", 0.5), trial("C1", 0.9), trial("D1", 2.1)),
        frontier_objectives("irrelevant_pass", "eval_loss", ()),
    )
    assert [result(info, label).kind for label in ("C2", "C1", "D1")] == ["frontier", "dominated", "no gain"]
    assert result(info, "C2").gain == pytest.approx(1.5)


def test_a_third_objective_widens_the_frontier(make_trial, make_experiment, make_baseline):
    cheap = make_trial("B1", 0.9, 0.8, last={"adapter_parameters": 10.0})
    dear = make_trial("C2", 0.95, 0.9, last={"adapter_parameters": 99.0})
    objectives = frontier_objectives("irrelevant_pass", "exact_match", ["adapter_parameters"])
    info = frontier_info(make_experiment(make_baseline(), cheap, dear), objectives)
    assert {one.placement.label for one in info.of_kind("frontier")} == {"B1", "C2"}


def test_a_failed_baseline_is_reported_and_gains_are_unknown(make_trial, make_experiment, make_baseline, objectives):
    failed = make_baseline(verdict="failed(OSError)", verdict_kind="failed", verdict_reason="disk full")
    info = frontier_info(make_experiment(failed, make_trial("C2")), objectives)
    assert result(info, "A0").reason == "failed(OSError): disk full"
    assert "gain is unknown" in result(info, "C2").reason


def test_without_a_verdict_there_is_no_frontier(make_trial, make_experiment, objectives):
    running = make_trial(verdict=None, verdict_kind=None, run_status="RUNNING")
    with pytest.raises(UserError, match="has 1 trials and no verdict"):
        frontier_info(make_experiment(running), objectives)


def test_a_metric_that_no_trial_has_is_refused(make_trial, make_experiment):
    with pytest.raises(UserError, match="has `caption_sanity`"):
        frontier_info(make_experiment(make_trial()), frontier_objectives("caption_sanity", "exact_match", ()))


def test_the_volume_is_counted_from_the_worst_fraction(make_trial, make_experiment, make_baseline, objectives):
    info = frontier_info(make_experiment(make_baseline(1.0, 0.1), make_trial("C2", 0.9, 0.8)), objectives)
    assert info.volume is not None
    assert info.volume.reference == (0.0, 0.0)
    assert info.volume.frontier == pytest.approx(0.9 * 0.8 + 0.1 * 0.1)
    assert info.volume.baseline == pytest.approx(0.1)
