"""Tests the forecast of memory against live tensors of real passes, and what a plan makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from planned_trials import trial
from scanned_rows import rows

from sweeps.planning.data_quality import FileQuality, file_quality
from sweeps.planning.device_memory import GIGABYTE, Devices, checked_price, devices_in
from sweeps.planning.forecast import forecast
from sweeps.planning.memory_findings import memory_findings
from sweeps.planning.resources import (
    USABLE_SHARE,
    TrialMemory,
    TrialResources,
    cohort_width,
    fitted,
    money,
    resources,
    resources_text,
    trial_memory,
)  # fmt: skip
from sweeps.planning.speed import known_speed
from sweeps.planning.weight_memory import weight_memory
from trainables.errors import UserError
from trainables.memory_file import WHOLE, Fit
from trainables.mini import BASE_DIRECTORY
from trainables.model.device_split import split_of
from trainables.model.stored_base import read_base
from trainables.spec import QUANTIZATIONS, Placement, ProbeRequest

WITHIN = 0.10


@pytest.fixture(scope="module")
def quality() -> FileQuality:
    return file_quality(rows("train", 40, tokens=600))


@pytest.mark.parametrize("quantization", [one for one in QUANTIZATIONS if one != "int8"])
def test_the_bytes_of_the_weights_are_those_of_the_loaded_base(quantization: str) -> None:
    import torch

    from trainables.model.base import load_base

    loaded = load_base(BASE_DIRECTORY, quantization, "float32", torch.device("cpu"), "quantized")  # type: ignore[arg-type]
    expected = weight_memory(read_base(BASE_DIRECTORY), quantization, 4)  # type: ignore[arg-type]
    assert expected.total / 1e6 == pytest.approx(loaded.megabytes, rel=0.02)


def test_a_smaller_device_begins_with_smaller_passes_and_then_computes_twice(quality: FileQuality) -> None:
    [one] = forecast([trial(batch_rows=8, quantization="none")], 40)
    base = read_base(BASE_DIRECTORY)
    peaks = [trial_memory(one, base, quality, fit).peak for fit in (WHOLE, Fit(2), Fit(8), Fit(8, True))]
    assert peaks == sorted(peaks, reverse=True)
    found = [fitted(one, base, quality, 1e9, int(1.01 * peak / 0.9)) for peak in peaks]
    assert [each.fit for each in found] == [WHOLE, Fit(2), Fit(8), Fit(8, True)]
    assert all(each.fits for each in found)
    assert not fitted(one, base, quality, 1e9, 2**20).fits


def test_more_quantization_layers_and_rows_take_what_they_take(quality: FileQuality) -> None:
    base = read_base(BASE_DIRECTORY)

    def memory(**changes: object):
        [one] = forecast([trial(**{"quantization": "none", **changes})], 40)
        return trial_memory(one, base, quality)

    assert memory(quantization="nf4").weights < memory(quantization="int8").weights < memory().weights
    deeper = memory(placement=Placement(language=4, vision=6))
    assert deeper.graph > memory().graph and deeper.adapter > memory().adapter
    assert memory(batch_rows=8).graph > 1.9 * memory(batch_rows=4).graph


# -------------------------------------------------------------------- money, devices, refusals
def test_money_is_hours_times_price() -> None:
    assert money(7200.0, 2.5, devices=2) == 10.0


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_below_zero_is_refused(price: float) -> None:
    with pytest.raises(UserError, match="--price must be 0 or more"):
        checked_price(price)


@pytest.mark.parametrize("text", ["-1", "0", "24,x", "24,", "nan", "inf"])
def test_memory_must_be_gigabytes(text: str) -> None:
    with pytest.raises(UserError, match="--memory must be gigabytes"):
        devices_in(text)


def test_memory_names_the_devices() -> None:
    assert devices_in("24,16") == Devices((24 * GIGABYTE, 16 * GIGABYTE), are_given=True) and devices_in("") is None


def test_minutes_and_money_follow_from_the_speed_of_earlier_runs(quality: FileQuality, tmp_path: Path) -> None:
    data = {"train": quality, "validation": quality, "ood": quality}
    found = resources(forecast([trial(quantization="none")], 40), data, [("text", 40)], True)
    assert found[0].flops > 0 and "after a first run" in resources_text(found, None, 2.0)
    told = resources_text(found, found[0].flops / 3600, 2.0)
    assert "60 minutes on 1 engine, at 2 a device-hour 2." in told
    (tmp_path / "speed.json").write_text("[]")
    assert known_speed(tmp_path / "speed.json") is None and known_speed(tmp_path / "none") is None


def test_a_base_larger_than_every_device_is_refused_with_what_each_would_hold(quality: FileQuality) -> None:
    forecasts = forecast([trial(quantization="none")], 40)
    weights = weight_memory(read_base(BASE_DIRECTORY), "none", 4).total
    data = {"train": quality, "validation": quality, "ood": quality}

    def refusal(*sizes: float) -> str:
        devices = Devices(tuple(int(size * weights) for size in sizes), are_given=True)
        [finding] = memory_findings(forecasts, resources(forecasts, data, [], True, devices.largest), devices)
        assert finding.level == "refuse" and finding.hint
        return finding.message

    assert "must fit one device" in refusal(0.5)
    assert "engines on several were never run" in refusal(0.9, 0.9)
    assert "have no room" in refusal(0.2, 0.2)


def test_the_split_holds_every_weight_once() -> None:
    split = split_of(BASE_DIRECTORY, 8_000_000, (6_000_000, 6_000_000), USABLE_SHARE)
    assert split.left_over == 0 and all(split.held) and sum(split.held) == pytest.approx(8_000_000, rel=0.05)


def test_a_finding_that_a_trial_does_not_fit_is_a_warning_on_memory_that_others_use(quality: FileQuality) -> None:
    forecasts = forecast([trial(quantization="none")], 40)
    [one] = resources(forecasts, {"train": quality, "validation": quality, "ood": quality}, [], True)
    tight = Devices((int(1.2 * one.memory.weights),))
    [finding] = memory_findings(forecasts, [replace(one, fits=False)], tight)
    assert finding.level == "warn"
    named = replace(tight, are_given=True)
    [finding] = memory_findings(forecasts, [replace(one, fits=False)], named)
    assert finding.level == "refuse", "what --memory names is all there is"


# -------------------------------------------------------------------- how many trials an engine begins with
def taking(adapter: int, graph: int, weights: int = 100, fit: Fit = WHOLE) -> TrialResources:
    return TrialResources(f"{adapter}-{graph}", "id", TrialMemory(weights, 0, adapter, graph, 5), 10.0, fit)


def test_an_engine_begins_with_as_many_trials_as_its_memory_holds_whichever_they_are() -> None:
    found = [taking(1, 9), taking(1, 19), taking(1, 39)]

    def width(usable: float, drawn: int | None = None) -> int | None:
        return cohort_width(found, usable / USABLE_SHARE, drawn)

    assert width(100 + 70) is None, "10 + 20 + 40 fit together"
    assert width(100 + 69) == 2 and width(100 + 60) == 2 and width(100 + 59) == 1
    assert width(50) == 1, "a trial that does not fit trains alone"
    assert width(100 + 160, drawn=4) is None and width(100 + 159, drawn=4) == 3, "any that is drawn may be the largest"


def test_a_trial_whose_steps_begin_smaller_takes_only_its_adapter_in_the_passes_of_others() -> None:
    found = [taking(10, 40, fit=Fit(2)), taking(10, 40)]
    assert cohort_width(found, (100 + 100) / USABLE_SHARE) is None
    assert cohort_width(found, (100 + 99) / USABLE_SHARE) == 1, "its own pass needs room beside all adapters"
    many = [taking(10, 40, fit=Fit(2))] * 4
    assert cohort_width(many, (100 + 80) / USABLE_SHARE) is None and cohort_width(many, (100 + 79) / USABLE_SHARE) == 3
    assert cohort_width([taking(10, 40), taking(10, 40)], (100 + 60) / USABLE_SHARE) == 1


def test_trials_on_other_weights_are_other_cohorts() -> None:
    found = [taking(1, 9), taking(1, 9), taking(1, 9, weights=150)]
    assert cohort_width(found, 165 / USABLE_SHARE) is None and cohort_width(found, 115 / USABLE_SHARE) == 1
    tight = [*[taking(1, 9)] * 4, *[taking(1, 9, weights=112)] * 3]
    assert cohort_width(tight, 135 / USABLE_SHARE) == 2, "of three and two, as any cohort may come first"


def test_the_cost_of_a_trial_follows_its_lowest_layer_its_probes_and_how_long_it_trains(quality: FileQuality) -> None:
    data = {"train": quality, "validation": quality, "ood": quality}

    def flops(suites: dict[ProbeRequest, int] | None = None, **changes: object) -> float:
        forecasts = forecast([trial(quantization="none", **changes)], 40)
        [one] = resources(forecasts, data, [("text", 40)], False, suites=suites or {})
        return one.flops

    last, first = Placement(language=2), Placement(language=2, language_indices=(0, 1))
    assert flops(placement=first) > flops(placement=last)
    assert flops(placement=first) == pytest.approx(flops(placement=Placement(language=8)))
    probed = {"placement": last, "probes": (ProbeRequest(suite="lm-eval", task="own"),)}
    assert flops({probed["probes"][0]: 10_000}, **probed) > flops(**probed) == flops(placement=last)
    assert flops(placement=last, probes=(ProbeRequest(suite="shift"),)) > flops(placement=last)
    assert flops(placement=last, steps=100, pilot_steps=25) < flops(placement=last, steps=100)


def test_a_search_takes_as_much_as_its_trials_would_if_all_were_the_largest() -> None:
    found = [replace(taking(1, 9), flops=10.0), replace(taking(1, 19), flops=30.0)]
    assert "All trials take 40 FLOPs" in resources_text(found, None, None)
    assert "24 trials, each like the largest at most, take 720 FLOPs, computed" in resources_text(
        found, 1, 1, trials=24
    )
    assert "All trials take 45 FLOPs, pilots among them" in resources_text(found, None, None, pilot_flops=5.0)
