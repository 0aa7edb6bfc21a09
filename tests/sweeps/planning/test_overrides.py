"""Tests `--set`, which sets any setting of a trial."""

from __future__ import annotations

import pytest

from sweeps.planning.overrides import ELSEWHERE, SETTABLE, parse_settings
from trainables.errors import UserError
from trainables.spec import TrialSpec


def test_values_have_their_types() -> None:
    given = "schedule=stable, batch_warmup_ratio=0.2,packed_tokens=4096,rslora=true,target_modules=q_proj+v_proj"
    assert parse_settings(given) == {
        "schedule": "stable", "batch_warmup_ratio": 0.2, "packed_tokens": 4096, "rslora": True,
        "target_modules": ("q_proj", "v_proj"),
    }  # fmt: skip
    assert parse_settings("") == {}


def test_every_setting_is_set_here_or_elsewhere() -> None:
    assert {*SETTABLE, *ELSEWHERE} == {*TrialSpec.model_fields, "epochs", "modules", "layers"}
    assert not {*SETTABLE} & {*ELSEWHERE}


@pytest.mark.parametrize(
    ("text", "expected", "hint"),
    [
        ("schedul=stable", "`schedul`", "schedule"),
        ("steps=5", "`steps`", "--steps"),
        ("dropout", "`dropout`", "schedule=stable"),
        ("dropout=", "`dropout=`", None),
        ("dropout=0.1,dropout=0.2", "is repeated", None),
    ],
)
def test_an_unknown_setting_is_refused(text: str, expected: str, hint: str | None) -> None:
    with pytest.raises(UserError) as caught:
        parse_settings(text)
    assert expected in caught.value.message
    assert (hint or "") in (caught.value.hint or "")


@pytest.mark.parametrize("text", [",", "dropout=0.1,,rslora=true", "dropout=0.1,", "target_modules=q_proj++v_proj"])
def test_an_empty_item_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="on both sides of every"):
        parse_settings(text)


@pytest.mark.parametrize("value", ["[" * 3000, "9" * 5000])
def test_a_value_that_python_cannot_read_is_refused(value: str) -> None:
    with pytest.raises(UserError, match="--set: `dropout` must be a number or a word"):
        parse_settings(f"dropout={value}")
