"""Tests the forecast of kept activations, against the FLOP model of the benchmarks and the rules of a pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planned_trials import trial

from sweeps.planning.data_quality import FileQuality, Lengths, Rows
from sweeps.planning.forecast import Forecast, forecast
from sweeps.planning.kept_forecast import (
    KeptForecast,
    RowShape,
    frozen_share,
    kept_forecast,
    kept_forecasts,
    kept_text,
    starts_in_language,
)
from trainables.frozen.key import TrunkEnd, trunk_end_of
from trainables.frozen.settings import IN_MEMORY, OFF, CacheSettings
from trainables.mini import BASE_DIRECTORY
from trainables.model.families import family_of
from trainables.spec import Placement, Source

FAMILY, CONFIG = family_of(BASE_DIRECTORY)
TOWERS = FAMILY.towers(CONFIG)
LAYERS, BLOCKS, TAPS, HIDDEN, VISION = 8, 12, 3, 128, 64
ROW = RowShape(rows=960, tokens=59.0, image_tokens=16.0, patches=64.0)


def quality(image_share: float = 16 / 59) -> FileQuality:
    none = Rows(0, 960)
    return FileQuality(960, 960, Lengths(59, 59, 59, 59), {64: 960}, 0.2, image_share, 30, none, none, none, none,
                       tokens=59 * 960)  # fmt: skip


def planned(language: int, vision: int, steps: int = 120, **changes: Any) -> Forecast:
    arm = f"L{language}-V{vision}"
    [found] = forecast(
        [trial(arm=arm, steps=steps, placement=Placement(language=language, vision=vision), **changes)], 960
    )
    return found


def of(*forecasts: Forecast, image_share: float = 16 / 59) -> tuple[KeptForecast, ...]:
    return kept_forecasts(forecasts, TOWERS, CONFIG, quality(image_share))


def test_the_mean_row_counts_patches_of_merged_tokens() -> None:
    found = RowShape.of(quality(), CONFIG)
    assert (found.rows, found.tokens) == (960, 59)
    assert (found.image_tokens, found.patches) == pytest.approx((16, 64))


@pytest.mark.parametrize(
    ("language", "vision", "values"),
    [
        (2, 0, 59 * HIDDEN),
        (5, 0, 59 * HIDDEN),
        (6, 0, (1 + TAPS) * 16 * HIDDEN),  # DeepStack adds to its lowest layer
        (0, 4, 64 * VISION),
        (2, 12, 0),
    ],
)
def test_bytes_are_those_of_the_values_that_a_pass_starts_from(language: int, vision: int, values: int) -> None:
    [found] = of(planned(language, vision))
    assert found.kept_bytes == pytest.approx(960 * values * 4, rel=1e-6)
    [half] = of(planned(language, vision, compute_dtype="bfloat16"))
    assert half.kept_bytes == pytest.approx(found.kept_bytes / 2, rel=1e-6)


def depths() -> Iterator[tuple[int, int]]:
    yield from ((language, vision) for language in range(LAYERS + 1) for vision in (0, 1, BLOCKS) if language or vision)


@pytest.mark.parametrize(("language", "vision"), list(depths()))
@pytest.mark.parametrize("has_pictures", [True, False])
def test_the_plan_and_a_pass_agree_on_where_it_starts(language: int, vision: int, has_pictures: bool) -> None:
    own = frozenset({0})
    differing = {
        "language": [own if block >= LAYERS - language else frozenset() for block in range(LAYERS)],
        "vision": [own if block >= BLOCKS - vision else frozenset() for block in range(BLOCKS)],
    }
    row = ROW if has_pictures else RowShape(960, 59.0, 0.0, 0.0)
    place = trunk_end_of(differing, own, has_pictures, TAPS)  # type: ignore[arg-type]
    below = LAYERS - language
    placement = Placement(language=language, vision=vision)
    assert starts_in_language(placement, TOWERS, row, TAPS) == (
        place == TrunkEnd("language", below) or (not has_pictures and not below)
    )
    assert (frozen_share(placement, TOWERS, row, TAPS) > 0) == (place is not None)


def test_the_share_is_that_of_the_frozen_linears() -> None:
    layer = sum(one.inputs * one.outputs for one in TOWERS["language"][0])
    block = sum(one.inputs * one.outputs for one in TOWERS["vision"][0])
    below = 6 * layer * 59 + BLOCKS * block * 64
    above = 2 * layer * 59
    assert frozen_share(Placement(language=2, vision=0), TOWERS, ROW, TAPS) == pytest.approx(
        below / (below + 2 * above)
    )


@pytest.mark.parametrize(("steps", "epochs"), [(60, 1), (30, 0.5), (180, 3)])
def test_within_a_run_the_first_epoch_computes(steps: int, epochs: float) -> None:
    [found] = of(planned(2, 0, steps))
    assert found.epochs == epochs
    assert found.saved_share == pytest.approx(found.frozen_share * (2 / 3 if epochs == 3 else 0))


def test_arms_of_one_placement_are_one_entry_and_baselines_are_none() -> None:
    assert [one.arms for one in of(planned(2, 0), planned(2, 0, seed=1), planned(0, 4))] == [("L2-V0",), ("L0-V4",)]
    assert of(planned(0, 0)) == ()


def test_the_text_says_what_where_and_how_much() -> None:
    found = of(planned(2, 0))
    assert "in memory" in kept_text(found, IN_MEMORY) and "L2-V0: 0.029 GB, saves 35% of the FLOPs" in kept_text(
        found, IN_MEMORY
    )
    assert "/cache, at most 5 GB" in kept_text(found, CacheSettings(True, "/cache", 5 * 10**9))
    assert "--cache off" in kept_text(found, OFF) and not kept_text((), IN_MEMORY)


@pytest.mark.parametrize(("steps", "evals", "said"), [
    (60, 4, "a row is trained on once, so those of training are not kept, those of 4 evals are"),
    (30, 1, "a row is trained on once, so those of training are not kept"),
    (72, 1, "a row is trained on 1.2 times, so those of training are not kept"),
    (120, 1, "0.029 GB, saves 35%"),
])  # fmt: skip
def test_the_plan_says_where_keeping_does_not_pay(steps: int, evals: int, said: str) -> None:
    found = of(planned(2, 0, steps, eval_every_steps=steps // evals))
    assert kept_text(found, IN_MEMORY).endswith(f"L2-V0: {said}") or "saves" in said
    assert said in kept_text(found, IN_MEMORY)
    assert "GB, saves" in kept_text(found, CacheSettings(True, "/cache", 5 * 10**9)), "files are always written"


def test_the_first_eval_of_a_continued_trial_is_not_counted() -> None:
    """It reads no entries, and those of a single later one do not pay."""
    begun = planned(2, 0, 60, eval_every_steps=60)
    parent = Source(path=Path("parent"), sha256="parent")
    continued = replace(begun, evals=2, spec=begun.spec.model_copy(update={"init_from": parent}))
    assert [one.evals for one in of(continued)] == [1]
    assert "evals are" not in kept_text(of(continued), IN_MEMORY)


def test_one_placement_of_a_search_is_as_that_of_an_arm() -> None:
    arm = of(planned(2, 0))[0]
    named = kept_forecast(["the smallest"], Placement(language=2), arm.epochs, arm.evals, "float32", TOWERS, CONFIG,
                          quality())  # fmt: skip
    assert named == replace(arm, arms=("the smallest",))


@pytest.mark.parametrize("listed", [(0,), (1, 6), (2, 3), (5, 7), (7,)])
@pytest.mark.parametrize("has_pictures", [True, False])
def test_the_plan_and_a_pass_agree_on_listed_layers_too(listed: tuple[int, ...], has_pictures: bool) -> None:
    own = frozenset({0})
    differing = {
        "language": [own if block in listed else frozenset() for block in range(LAYERS)],
        "vision": [frozenset()] * BLOCKS,
    }
    row = ROW if has_pictures else RowShape(960, 59.0, 0.0, 0.0)
    place = trunk_end_of(differing, own, has_pictures, TAPS)  # type: ignore[arg-type]
    placement = Placement(language=len(listed), language_indices=listed, modules="mlp")
    assert starts_in_language(placement, TOWERS, row, TAPS) == (
        place == TrunkEnd("language", listed[0]) or (not has_pictures and not listed[0])
    )
    assert (frozen_share(placement, TOWERS, row, TAPS) > 0) == (place is not None)
    [found] = forecast([trial(placement=placement)], 960)
    assert found.backward_share == (LAYERS - listed[0]) / LAYERS
