"""Tests the sentences of the conclusion."""

from __future__ import annotations

from analysis.frontier import frontier_info
from analysis.report.conclusions import conclusion, criteria_text, footnotes, recommended, unknowns


def priced(make_trial, arm: str, x: float, y: float, parameters: float, seed: int = 0, **changes):
    row = {"irrelevant_pass": x, "exact_match": y}
    last = row | {"adapter_parameters": parameters}
    return make_trial(f"{arm}-s{seed}", last=last, **({"best": row, "parameters": {"seed": seed}} | changes))


def test_the_best_fit_of_the_frontier_is_shipped_with_its_price(make_trial, make_baseline, make_experiment, objectives):
    trials = priced(make_trial, "C2", 0.95, 0.9, 700_000), priced(make_trial, "B2", 1.0, 0.4, 240_000)
    info = frontier_info(make_experiment(make_baseline(), *trials), objectives)
    output = " ".join(conclusion(info))
    assert output.startswith("Ship C2 L2·V4: exact_match 0.900, irrelevant_pass 0.950; gain over the baseline 0.8;")
    assert "700,000 trained parameters" in output
    assert "If irrelevant_pass matters more, take B2" in output
    assert "No larger placement has finished, so more LoRA may be better." in output
    assert "With fewer than 3 seeds its advantage is not established" in output


def test_more_lora_that_was_stopped_or_fits_no_better_was_not_better(
    make_trial, make_baseline, make_experiment, objectives
):
    trials = (
        priced(make_trial, "C2", 0.95, 0.9, 700),
        priced(make_trial, "C3", 0.94, 0.85, 800),
        priced(make_trial, "D3", 0.5, 0.99, 900, best={}),
    )
    info = frontier_info(make_experiment(make_baseline(), *trials), objectives)
    expected = "More LoRA was not better: of 2 larger placements, 1 with no better fit, 1 not admissible."
    assert expected in conclusion(info)


def test_of_placements_that_seeds_do_not_separate_the_cheapest_is_shipped(
    make_trial, make_baseline, make_experiment, objectives
):
    dear = [priced(make_trial, "C3", 0.93, y, 900, seed) for seed, y in enumerate([0.90, 0.93, 0.96])]
    cheap = [priced(make_trial, "C1", 0.95, y, 300, seed) for seed, y in enumerate([0.89, 0.92, 0.95])]
    poor = [priced(make_trial, "B1", 0.99, y, 100, seed) for seed, y in enumerate([0.4, 0.4, 0.5])]
    info = frontier_info(make_experiment(make_baseline(), *dear, *cheap, *poor), objectives)
    pick = recommended(info)
    assert pick is not None
    assert pick.placement.label == "C1"
    assert "1 with a fit not separable from it" in " ".join(conclusion(info))


def test_without_a_placement_on_the_frontier_nothing_is_shipped(make_trial, make_baseline, make_experiment, objectives):
    trials = make_trial("B1", 1.0, 0.05), make_trial("D3", best={})
    info = frontier_info(make_experiment(make_baseline(), *trials), objectives)
    assert conclusion(info) == [
        "Ship nothing yet: no placement is on the frontier (1 not admissible, 1 without gain over the baseline)."
    ]


def test_a_study_with_only_the_baseline_is_reported_as_such(make_baseline, make_experiment, objectives):
    assert "only the baseline ran" in conclusion(frontier_info(make_experiment(make_baseline()), objectives))[0]


def test_the_unknowns_are_listed(make_trial, make_experiment, objectives):
    seeds = [make_trial(f"C2-s{i}", y=0.9 + i / 100, parameters={"seed": i}) for i in range(3)]
    running = make_trial("D1", verdict=None, verdict_kind=None, run_status="RUNNING")
    output = " ".join(unknowns(frontier_info(make_experiment(*seeds, make_trial("B1"), running), objectives)))
    for part in (
        "1 placement with one seed: the spread is unknown",
        "from 3 seeds one covers at most 75%",
        "Without a baseline",
        "1 trial without a verdict yet",
    ):
        assert part in output


def test_a_degraded_or_forced_placement_is_marked_and_the_marks_are_explained(
    make_trial, make_baseline, make_experiment, objectives
):
    spiked = [
        make_trial(
            f"C2-s{i}", parameters={"seed": i}, degraded=("gradient_spikes",) if i else (), overridden=("labels",)
        )
        for i in range(3)
    ]
    forced = make_trial("B1", 1.0, 0.3, overridden=("labels", "coverage"))
    info = frontier_info(make_experiment(make_baseline(), *spiked, forced), objectives)
    assert conclusion(info)[0].startswith("Ship C2 L2·V4†‡: exact_match")
    assert footnotes(info) == [
        "† degraded, a health check found a problem: gradient_spikes in C2 (2 of 3 seeds).",
        "‡ started with --force although the pre-flight refused it: labels in C2, B1; coverage in B1.",
    ]


def test_without_marks_there_are_no_footnotes(make_trial, make_baseline, make_experiment, objectives):
    assert footnotes(frontier_info(make_experiment(make_baseline(), make_trial()), objectives)) == []


def test_seeds_that_met_different_criteria_are_counted(make_trial, make_baseline, make_experiment, objectives):
    met = ("none", "optimal", "none", None)
    seeds = [make_trial(f"C2-s{i}", parameters={"seed": i}, criteria=one) for i, one in enumerate(met)]
    same = [make_trial(f"B1-s{i}", 1.0, 0.3, parameters={"seed": i}, criteria="minimum") for i in range(2)]
    results = frontier_info(make_experiment(make_baseline(), *seeds, *same), objectives).results
    output = {one.placement.label: criteria_text(one) for one in results}
    assert output == {"C2": "1 optimal, 2 none", "B1": "minimum", "A0": ""}
