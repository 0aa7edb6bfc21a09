"""Tests which tokens count as near ties, and that what another batch shape moves lies within the bound."""

from __future__ import annotations

import pytest
import torch
from small_trials import SpecMaker

from trainables.engine import Engine
from trainables.evaluation.near_ties import DRIFT_SHARES, best_tokens, drafts_pay, drift_share


def test_the_bound_is_a_share_of_the_best_logit_and_at_least_that_share() -> None:
    logits = torch.tensor([[10.0, 9.95, 0.0], [10.0, 9.85, 0.0], [0.3, 0.295, 0.0], [0.3, 0.28, 0.0], [5.0, 5.0, 0.0]])
    tokens, near = best_tokens(logits, 0.01)
    assert near.tolist() == [True, False, True, False, True]
    assert tokens[:4].tolist() == [0, 0, 0, 0]
    assert best_tokens(logits[None], 0.0)[1].tolist() == [[False, False, False, False, True]], "an exact tie is one"


def test_coarser_numbers_have_a_larger_bound_and_the_coarsest_no_drafts(engine: Engine) -> None:
    shares = [DRIFT_SHARES[dtype] for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)]
    assert shares == sorted(shares) and [drafts_pay(one) for one in shares] == [True, True, True, False]
    assert drift_share(engine.base.model) == DRIFT_SHARES[torch.float32]


def test_int8_has_the_bound_of_its_rounding(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.base.model, "is_loaded_in_8bit", True, raising=False)
    assert not drafts_pay(drift_share(engine.base.model))


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["none", "nf4-double"])
def test_other_shapes_stay_within_the_bound(quantization: str, make_spec: SpecMaker) -> None:
    from benchmarks.eval_drift import measure_drift

    engine = Engine.load(make_spec(quantization=quantization), torch.device("cpu"))
    share = drift_share(engine.base.model)
    found = measure_drift(engine, engine.evaluator.prompts, 8, share)
    assert found.tokens > 50 and 0.0 < found.largest_share < share / 4
    assert found.other_beyond == 0
