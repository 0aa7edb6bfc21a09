"""Tests the simulated errors of guards: against the guards themselves, at their limits, and as the plan shows them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sweeps.planning.guard_errors import (
    GAP_NOISE_NATS,
    GuardErrors,
    _ever_for,
    _sequential,
    blind_guards,
    errors_text,
    gap_kill_share,
    guard_errors,
    kill_share,
    looks,
    rows_asked,
)
from trainables.decision import Ask, Stop
from trainables.guards import CAPTION_GUARD as CAPTIONS
from trainables.guards import GAP_GUARD as GAP
from trainables.guards import GUARDS, Ceiling, Fall, Floor, Widening
from trainables.guards import HALLUCINATION_GUARD as HALLUCINATION
from trainables.guards import PASS_GUARD as PASS
from trainables.measurement import Measurement
from trainables.probes.metric import RowResults
from trainables.tested_guards import RUN_ERROR, as_tests

ROWS = (("caption", 30), ("irrelevant", 192), ("text", 112))


def eval_of(metric: str, answers: np.ndarray, asked: int) -> Measurement:
    core, more = (RowResults({str(n): float(answers[n]) for n in part}) for part in (range(48), range(48, asked)))
    return Measurement("eval", 0, {metric: core.mean}, {metric: core.proportion}, {metric: core}, "1", {metric: more})


def decided(rule: Floor | Ceiling, answers: np.ndarray, baseline: np.ndarray, evals: int) -> bool:
    """Lead the guard itself through the evals of one run, as a trial does; return whether it stops."""
    guard, seen = as_tests((rule,), evals)[0], []
    base = eval_of(rule.metric, baseline, len(baseline))
    for row in answers:
        asked = 48
        while isinstance(decision := guard.decide(base, [*seen, eval_of(rule.metric, row, asked)]), Ask):
            asked += decision.rows
        seen.append(eval_of(rule.metric, row, asked))
        if isinstance(decision, Stop):
            return True
    return False


@pytest.mark.parametrize(("rule", "rate", "base"), [(PASS, 0.78, 1.0), (HALLUCINATION, 0.25, 0.1)])
def test_the_simulation_decides_as_the_guard_does(rule: Floor | Ceiling, rate: float, base: float) -> None:
    rng, evals, rows = np.random.default_rng(7), 3, 120
    baseline, answers = rng.random((30, rows)) < base, rng.random((30, evals, rows)) < rate
    simulated = _ever_for(_sequential(rule, answers, baseline, RUN_ERROR / evals), rule.patience_evals)
    own = [decided(rule, one, base_row, evals) for one, base_row in zip(answers, baseline, strict=True)]
    assert simulated.tolist() == own
    assert 0 < sum(own) < 30  # both decisions are tested


@pytest.mark.parametrize("evals", [4, 20])
@pytest.mark.parametrize(("rule", "healthy"), [(PASS, 0.85), (HALLUCINATION, 0.10)])
def test_a_healthy_arm_is_stopped_at_most_at_the_error_of_a_run(
    rule: Floor | Ceiling, healthy: float, evals: int
) -> None:
    base = 1.0 if isinstance(rule, Floor) else 0.0
    assert kill_share(rule, "tested", 192, evals, healthy, base) <= RUN_ERROR
    assert kill_share(rule, "exact", 48, evals, healthy, base) > RUN_ERROR  # which the literal reading does not keep


def test_more_evals_see_a_broken_arm_and_fewer_rows_see_less() -> None:
    shares = [kill_share(PASS, "tested", 192, evals, 0.75, 1.0) for evals in (4, 10, 20)]
    assert all(before < after for before, after in pairwise(shares)) and shares[-1] > 0.9
    assert kill_share(PASS, "tested", 48, 20, 0.75, 1.0) < shares[-1] - 0.3
    assert kill_share(CAPTIONS, "tested", 5, 4, 0.35, 1.0) < 0.2 < kill_share(CAPTIONS, "tested", 30, 4, 0.35, 1.0)


def test_fewer_evals_than_its_patience_never_stop_an_arm() -> None:
    assert kill_share(PASS, "tested", 192, 1, 0.1, 1.0) == 0.0
    assert gap_kill_share(GAP, "tested", 2, 1.0) == 0.0


def test_the_gap_of_a_flat_arm_is_stopped_by_noise_only_in_the_exact_reading() -> None:
    assert gap_kill_share(GAP, "tested", 20, 0.0, 0.05) <= RUN_ERROR < gap_kill_share(GAP, "exact", 20, 0.0, 0.05)
    assert gap_kill_share(GAP, "tested", 10, 1.0, GAP_NOISE_NATS) > 0.9


def test_the_test_asks_the_core_first_and_least_of_a_good_arm() -> None:
    assert looks(192) == [48, 64, 80, 96, 112, 128, 144, 160, 176, 192] and looks(20) == [20]
    asked = [rows_asked(PASS, 192, 4, rate, 1.0) for rate in (0.99, 0.90, 0.80)]
    assert asked[0] < 50 and asked == sorted(asked) and asked[-1] < 192


def test_guards_without_rows_or_a_test_are_left_out() -> None:
    found = guard_errors((*GUARDS, Fall("stage1_accuracy", 0.1, 2)), "tested", ROWS, 4)
    assert [one.metric for one in found] == [guard.metric for guard in GUARDS]
    assert [one.metric for one in guard_errors(GUARDS, "tested", (("text", 80),), 4)] == ["generalization_gap"]
    assert guard_errors((Ceiling("dangerous_rate", 0.05, 1),), "tested", ROWS, 4) == ()
    assert guard_errors((Widening("generalization_gap", 0.06, 2),), "tested", (), 4) == (found[2],)


def test_the_plan_says_the_errors_and_warns_of_a_guard_that_sees_nothing() -> None:
    few = guard_errors(GUARDS, "tested", (("caption", 5), ("irrelevant", 192)), 4)
    shown = errors_text(few, "tested").splitlines()
    assert shown[0] == "Guards (tested, error at most 5% a run), simulated at 4 evals:"
    assert shown[1].startswith("    irrelevant_pass (192 rows): stops ") and " at 0.85, misses " in shown[1]
    assert max(map(len, shown)) <= 80
    [finding] = blind_guards(few)
    assert (finding.level, finding.check) == ("warn", "guard_power")
    assert "the guard on caption_sanity should stop an arm at 0.35, but with 5 rows and 4 evals" in finding.message
    assert blind_guards(guard_errors(GUARDS, "tested", ROWS, 4)) == []
    hints = {one.message.split()[3]: one.hint for one in blind_guards(guard_errors(GUARDS, "tested", ROWS, 1))}
    assert hints["irrelevant_pass"] == hints["generalization_gap"]  # neither can stop an arm at one eval
    assert hints["irrelevant_pass"].startswith("evaluate more often, with --eval-every")
    assert errors_text((), "tested") == ""
    assert "exact, by the numbers as they are" in errors_text((GuardErrors("x", 0, 4, 0, 0, 1, 0),), "exact")


def test_the_exact_reading_of_a_reserve_is_that_of_the_core_and_earlier_formats_read_all_rows() -> None:
    new, old = (guard_errors((PASS, CAPTIONS), "exact", ROWS, 20, spec_format) for spec_format in (3, 2))
    assert [(one.rows, one.given) for one in new] == [(48, 192), (30, 30)]
    assert [(one.rows, one.given) for one in old] == [(192, 192), (30, 30)]
    assert new[0].false_kill > 2 * old[0].false_kill  # fewer rows, more noise
    assert errors_text(new, "exact").splitlines()[1].startswith("    irrelevant_pass (48 of 192 rows): stops ")
    assert errors_text(old, "exact").splitlines()[1].startswith("    irrelevant_pass (192 rows): stops ")
    [tested] = guard_errors((PASS,), "tested", ROWS, 20)
    assert not tested.leaves_out
    [blind] = blind_guards(guard_errors((PASS,), "exact", ROWS, 1))
    assert "with 48 of 192 rows and 1 evals" in blind.message and "--eval-every" in (blind.hint or "")
    [blind] = blind_guards([GuardErrors("irrelevant_pass", 48, 20, 0.85, 0.0, 0.75, 0.9, 192)])
    assert (blind.hint or "").startswith("--guards tested asks the other rows too")  # more rows would not be read
