"""Tests dropout masks that depend only on seed, step and layer: their rate and independence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from trainables.model.dropout import KeyedDropout, Masks

MANY = torch.empty(400, 501)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_the_rate(rate: float) -> None:
    kept = Masks(3, rate).keep("layer", MANY)
    assert kept.dtype == torch.bool and kept.shape == MANY.shape
    deviation = (rate * (1 - rate) / MANY.numel()) ** 0.5
    assert abs(float((~kept).double().mean()) - rate) < 4 * deviation


def test_both_draws_from_one_random_number_are_independent() -> None:
    kept = Masks(0, 0.5).keep("layer", MANY).flatten()
    first, second = kept[0:-1:2], kept[1::2]
    deviation = 0.5 / len(second) ** 0.5
    for one in (first, second, first == second):
        assert abs(float(one.double().mean()) - 0.5) < 4 * deviation


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (3, 5), (2, 3, 7)])
def test_odd_numbers_of_features_have_a_mask_as_well(shape: tuple[int, ...]) -> None:
    assert Masks(0, 0.1).keep("layer", torch.empty(shape)).shape == shape


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}, {"micro_step": 1}, {"rate": 0.4}, {}])
def test_a_mask_repeats_itself_and_changes_with_all_that_names_it(change: dict) -> None:
    here = Masks(0, 0.5)
    mask = here.keep("layer", MANY)
    assert torch.equal(mask, Masks(0, 0.5).keep("layer", MANY))
    there = replace(here, **change).keep("layer" if change else "another layer", MANY)
    agreeing = float((mask == there).double().mean())
    assert agreeing == pytest.approx(0.5, abs=0.01)


def test_a_mask_is_independent_of_other_random_numbers_and_draws_none() -> None:
    before = torch.get_rng_state()
    masks = Masks(0, 0.5)
    late = [masks.keep(layer, MANY) for layer in ("a", "b")][1]
    assert torch.equal(late, Masks(0, 0.5).keep("b", MANY))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(late, Masks(0, 0.5).keep("b", MANY))


def test_dropout_keeps_the_mean_while_training_and_passes_features_on_otherwise() -> None:
    features = torch.rand(300, 301, dtype=torch.float64) + 1.0
    dropout = KeyedDropout(Masks(0, 0.25), "layer")
    dropped = dropout(features)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], features[kept] / 0.75, rtol=1e-15, atol=0.0)
    assert float(dropped.mean()) == pytest.approx(float(features.mean()), rel=0.01)
    assert dropout.eval()(features) is features
    assert KeyedDropout(Masks(0, 0.0), "layer")(features) is features


def test_a_rate_just_below_one_drops_all_and_a_tiny_one_nothing() -> None:
    few = torch.empty(64)
    assert not Masks(0, 1.0 - 1e-12).keep("layer", few).any()
    assert Masks(0, 1e-12).keep("layer", few).all()
