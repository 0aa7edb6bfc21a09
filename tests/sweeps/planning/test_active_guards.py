"""A study on a base that sees no pictures: the plan decides and reports which guards apply."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sweeps.commands import STUDY as COMMANDS
from sweeps.planning.active_guards import active_guards
from sweeps.stage4 import STUDY
from trainables.constraint import TextConstraint
from trainables.errors import UserError
from trainables.guards import Ceiling, judge
from trainables.metrics import METRICS
from trainables.record import Measurement

TEXT = frozenset(METRICS) - {"irrelevant_pass", "hallucination", "blindness", "caption_sanity", "crop_consistency"}
TEXT_ONLY = "; the best checkpoint must meet max_text_retention_drop 0.1"  # without a metric of its constraint


def test_on_a_base_with_a_vision_tower_a_study_is_unchanged() -> None:
    found = active_guards(STUDY, METRICS, sees=True)
    assert (found.study, found.left_out) == (STUDY, "")


def test_on_a_text_base_left_out_guards_are_reported_with_reasons() -> None:
    found = active_guards(STUDY, TEXT, sees=False)
    assert [guard.metric for guard in found.study.guards] == ["generalization_gap", "text_retention"]
    base, fallen = (
        {"text_retention": 1.0, "generalization_gap": 0.0},
        {"text_retention": 0.79, "generalization_gap": 0.0},
    )
    stopped = judge(
        found.study.guards, Measurement("eval", 0, base), [Measurement("eval", step, fallen) for step in (10, 20)]
    )
    assert stopped is not None and (stopped.kind, stopped.cause) == ("pruned", "text_retention")
    assert found.study.constraint == TextConstraint()
    assert found.left_out == (
        "guards that do not apply because the base has no vision tower: irrelevant_pass, hallucination, "
        "caption_sanity; "
        "the best checkpoint must meet max_text_retention_drop 0.1; an arm is stopped when text_retention falls by 20%"
    )
    assert replace(found.study, guards=STUDY.guards, constraint=STUDY.constraint) == STUDY
    assert active_guards(found.study, TEXT, sees=False).left_out == ""  # decided once


@pytest.mark.parametrize(
    ("sees", "missing", "expected"),
    [
        (
            False,
            {"dangerous_rate"},
            f"guards that do not apply because the data has no rows for them: dangerous_rate{TEXT_ONLY}",
        ),
        (
            True,
            {"dangerous_rate"},
            f"guards that do not apply because the data has no rows for them: dangerous_rate{TEXT_ONLY}",
        ),
    ],
)
def test_a_text_guard_without_rows_has_its_own_reason(sees: bool, missing: set[str], expected: str) -> None:
    assert active_guards(COMMANDS, frozenset(METRICS) - missing, sees=sees).left_out == expected


def test_each_guard_that_is_left_out_has_its_own_reason() -> None:
    both = replace(COMMANDS, guards=(*COMMANDS.guards, Ceiling("hallucination", 0.1, 1)))
    assert active_guards(both, TEXT - {"dangerous_rate"}, sees=False).left_out == (
        "guards that do not apply because the base has no vision tower: hallucination; "
        f"guards that do not apply because the data has no rows for them: dangerous_rate{TEXT_ONLY}"
    )
    seeing = active_guards(both, TEXT - {"dangerous_rate"}, sees=True).left_out
    assert seeing.endswith(f"because the data has no rows for them: dangerous_rate, hallucination{TEXT_ONLY}")


def test_a_guard_on_a_metric_that_does_not_exist_is_no_guard_that_does_not_apply() -> None:
    misspelt = replace(STUDY, guards=(Ceiling("halucination", max_absolute_rise=0.1, patience_evals=1),))
    with pytest.raises(UserError, match="got `halucination`") as caught:
        active_guards(misspelt, TEXT, sees=False)
    assert caught.value.hint == "did you mean `hallucination`?"
