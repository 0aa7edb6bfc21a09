"""Tests which failures a trial survives."""

from __future__ import annotations

import pytest

from trainables.workers.retries import MOST_LOST, GivenUp, TrialFailure, company_after, given_up, reason_of

ROW = "ValueError: row 3"
LOST = TrialFailure("ActorDiedError: gone", lost=True)


@pytest.mark.parametrize(
    ("failures", "ended"),
    [
        ([TrialFailure(ROW)], None),
        ([TrialFailure(ROW), TrialFailure("ValueError: row 4")], None),
        ([TrialFailure(ROW), TrialFailure(ROW)], GivenUp("ValueError", f"failed twice alike: {ROW}")),
        ([TrialFailure(ROW, company=24)] * 9, None),
        ([TrialFailure(ROW, company=3), TrialFailure(ROW)], None),
        ([*[TrialFailure(ROW, company=3)] * 9, TrialFailure("b"), TrialFailure("c")], None),
        ([TrialFailure(ROW), LOST, TrialFailure(ROW)], GivenUp("ValueError", f"failed twice alike: {ROW}")),
        ([TrialFailure("a"), TrialFailure("b"), TrialFailure("c")], GivenUp("c", "failed 3 times, the last time: c")),
        ([TrialFailure("a"), TrialFailure("b", company=2), TrialFailure("c")], None),
        ([LOST] * MOST_LOST, None),
        ([LOST] * (MOST_LOST + 1), GivenUp("infrastructure", "lost 6 times, the last time: ActorDiedError: gone")),
    ],
)
def test_a_trial_is_given_up_for_its_own_failures_alone_and_for_many_losses(
    failures: list[TrialFailure], ended: GivenUp | None
) -> None:
    assert given_up(failures, retries=2) == ended


def test_a_trial_that_failed_among_others_trains_with_half_as_many_until_it_is_alone() -> None:
    assert company_after([]) is None
    assert company_after([LOST]) is None
    failures: list[TrialFailure] = []
    limits: list[int | None] = []
    for _ in range(5):
        failures.append(TrialFailure(ROW, company=limits[-1] or 24 if limits else 24))
        limits.append(company_after(failures))
    assert limits == [12, 6, 3, 1, 1]
    assert company_after([*failures, LOST]) == 1


def test_the_reason_is_the_class_and_the_first_line() -> None:
    assert reason_of(ValueError("\n  no such row \nmore")) == "ValueError: no such row"
    assert reason_of(KeyError()) == "KeyError"
    assert len(reason_of(ValueError("x" * 10_000))) == 400
