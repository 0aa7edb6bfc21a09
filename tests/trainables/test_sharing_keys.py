"""Tests which settings must be equal to share an engine and a cohort; every setting is classified."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from small_trials import SpecMaker

from trainables.sharing_keys import cohort_key, cohort_order, engine_key
from trainables.spec import RESERVE_FORMAT, Placement, ProbeRequest, Source, TrialSpec


def elsewhere(source: Source) -> Source:
    return source.model_copy(update={"sha256": "other"})


ENGINE: dict[str, Any] = {
    "base": elsewhere, "train": elsewhere, "validation": elsewhere, "ood": elsewhere,
    "earlier": lambda _: (Source(path="stage-1", sha256="a"),),  # type: ignore[arg-type]
    "quantization": lambda _: "nf4", "compute_dtype": lambda _: "bfloat16", "template_date": lambda _: date.today(),
    "train_slice_rows": lambda now: now // 2,
    "format": lambda _: RESERVE_FORMAT - 1,  # its evals ask other rows
    "probes": lambda _: (ProbeRequest(suite="shift"),),
}  # fmt: skip
COHORT: dict[str, Any] = dict.fromkeys(
    (
        "batch_rows",
        "accumulation_steps",
        "max_tokens",
        "packed_tokens",
        "eval_every_steps",
        "steps",
        "data_seed",
        "batch_warmup_ratio",
    ),
    lambda now: now + 1,
) | {
    **dict.fromkeys(("pilot_steps", "replay_ratio"), lambda now: now + 1),
    "replay": lambda _: Source(path="general", sha256="a"),  # type: ignore[arg-type]
}
OWN: dict[str, Any] = {
    "name": lambda _: "other",
    "arm": lambda _: "other",
    "placement": lambda _: Placement(language=1),
    **dict.fromkeys(("rank", "seed"), lambda now: now + 1),
    **dict.fromkeys(("alpha", "learning_rate", "vision_learning_rate", "max_gradient_norm"), lambda now: 2 * now),
    **dict.fromkeys(("dropout", "weight_decay", "adam_beta2", "warmup_ratio", "min_rate_ratio"), lambda now: now / 2),
    "rslora": lambda now: not now,
    "init_from": lambda _: Source(path="adapter", sha256="a"),  # type: ignore[arg-type]
    "optimizer": lambda _: "resumed",
    "continuation": lambda _: "extended",
    "schedule": lambda _: "linear",
    "target_modules": lambda _: ("q_proj",),
}


def changed(spec: TrialSpec, name: str, change: Any) -> TrialSpec:
    return spec.model_copy(update={name: change(getattr(spec, name))})


def test_every_setting_is_classified() -> None:
    assert {*ENGINE, *COHORT, *OWN} == set(TrialSpec.model_fields)


@pytest.mark.parametrize("name", ENGINE)
def test_another_engine_is_another_cohort(name: str, make_spec: SpecMaker) -> None:
    spec = make_spec()
    other = changed(spec, name, ENGINE[name])
    assert engine_key(other) != engine_key(spec)
    assert cohort_key(other) != cohort_key(spec)


@pytest.mark.parametrize("name", COHORT)
def test_another_number_of_steps_or_evals_is_another_cohort_on_the_same_engine(name: str, make_spec: SpecMaker) -> None:
    spec = make_spec()
    other = changed(spec, name, COHORT[name])
    assert engine_key(other) == engine_key(spec)
    assert cohort_key(other) != cohort_key(spec)


@pytest.mark.parametrize("name", OWN)
def test_settings_of_a_single_trial_do_not_split_cohorts(name: str, make_spec: SpecMaker) -> None:
    spec = make_spec()
    other = changed(spec, name, OWN[name])
    assert other != spec
    assert (engine_key(other), cohort_key(other)) == (engine_key(spec), cohort_key(spec))


def test_paths_do_not_matter(make_spec: SpecMaker) -> None:
    spec = make_spec()
    moved = spec.model_copy(update={"base": spec.base.model_copy(update={"path": "elsewhere"})})
    assert cohort_key(moved) == cohort_key(spec)


def test_neighbours_share_the_most_of_a_pass(make_spec: SpecMaker) -> None:
    depths = [(3, 1), (2, 0), (1, 1), (1, 0), (1, 4)]
    specs = [make_spec(placement=Placement(language=language, vision=vision)) for language, vision in depths]
    ordered = [(one.placement.language, one.placement.vision) for one in sorted(specs, key=cohort_order)]
    assert ordered == [(1, 0), (2, 0), (1, 1), (3, 1), (1, 4)]
