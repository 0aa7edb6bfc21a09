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
from sweeps.planning.resources import USABLE_SHARE, fitted, money, resources, resources_text, trial_memory
from sweeps.planning.speed import known_speed
from sweeps.planning.weight_memory import weight_memory
from trainables.errors import UserError
from trainables.memory_file import WHOLE, Fit
from trainables.mini import BASE_DIRECTORY
from trainables.model.device_split import split_of
from trainables.model.stored_base import read_base
from trainables.spec import QUANTIZATIONS, Placement

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
