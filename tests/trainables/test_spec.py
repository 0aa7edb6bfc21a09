from __future__ import annotations

import pickle
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError
from small_trials import SpecMaker

from trainables.errors import UserError
from trainables.io.checksums import canonical_json
from trainables.source import ProbeRequest
from trainables.spec import QUANTIZATIONS, Placement, Source, parse_spec


def parse(make_spec: SpecMaker, **changes: object):
    return parse_spec(make_spec().model_dump(mode="json") | changes, where="study.json")


def test_a_spec_survives_json(make_spec: SpecMaker) -> None:
    spec = make_spec(init_from=Source(path=Path("/somewhere"), sha256="abc"), optimizer="resumed")
    assert parse_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("changes", "expected", "hints"),
    [
        ({"learnin_rate": 1e-4}, "study.json: `learnin_rate` is not a setting of a trial", "`learning_rate`"),
        ({"placement": {"langauge": 2}}, "`placement.langauge` is not a setting", "`language`"),
        ({"rank": 0}, "`rank`: input should be greater than or equal to 1, but got 0", None),
        ({"alpha": 0}, "`alpha`: input should be greater than 0, but got 0", None),
        ({"dropout": 1.0}, "`dropout`: input should be less than 1", None),
        ({"warmup_ratio": 1.5}, "`warmup_ratio`: input should be less than or equal to 1", None),
        ({"learning_rate": float("nan")}, "`learning_rate`: input should be", None),
        ({"placement": {"vision": -1}}, "`placement.vision`: input should be greater than or equal to 0", None),
        ({"quantization": "nf5"}, "'nf4-double', but got 'nf5'", None),
        ({"optimizer": "resumed"}, "needs `init_from`", None),
        ({"steps": 0}, "`steps`: input should be greater than or equal to 1", None),
    ],
)
def test_bad_settings_are_refused(make_spec: SpecMaker, changes: dict, expected: str, hints: str | None) -> None:
    with pytest.raises(UserError) as caught:
        parse(make_spec, **changes)
    assert expected in caught.value.message
    assert (hints or "") in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def test_every_problem_is_named_at_once(make_spec: SpecMaker) -> None:
    with pytest.raises(UserError) as caught:
        parse(make_spec, rank=0, steps=0, colour="red")
    assert all(f"`{key}`" in caught.value.message for key in ("rank", "steps", "colour"))


def test_the_id_ignores_name_and_paths_and_depends_on_everything_else(make_spec: SpecMaker) -> None:
    spec = make_spec()
    moved = {key: Source(path=Path("/elsewhere"), sha256=getattr(spec, key).sha256) for key in ("base", "train", "ood")}
    assert make_spec(name="another", arm="other", **moved).trial_id == spec.trial_id

    changed = {
        "format": spec.format - 1,
        "placement": Placement(language=2, vision=3),
        "quantization": "nf4",
        "compute_dtype": "bfloat16",
        "optimizer": "resumed",
        "init_from": Source(path=Path("/parent"), sha256="abc"),
        "template_date": date(2026, 11, 28),
        "replay": Source(path=Path("/general"), sha256="abc"),
        "probes": (ProbeRequest(suite="shift"),),
        "continuation": "extended",
        "schedule": "linear",
        "target_modules": ("q_proj",),
        "earlier": (Source(path=Path("/stage-1"), sha256="abc"),),
        "rslora": True,
        **{key: Source(path=getattr(spec, key).path, sha256="new") for key in ("base", "train", "validation", "ood")},
    }
    for key in set(type(spec).model_fields) - set(changed) - {"name", "arm"}:
        changed[key] = getattr(spec, key) * 2 + (getattr(spec, key) == 0)
    ids = {key: spec.model_copy(update={key: value}).trial_id for key, value in changed.items()}
    assert spec.trial_id not in ids.values(), f"{[k for k, v in ids.items() if v == spec.trial_id]} do not reach the id"
    assert len(set(ids.values())) == len(ids)


def test_equal_numbers_have_one_id(make_spec: SpecMaker) -> None:
    assert make_spec(alpha=8, learning_rate=0.002).trial_id == make_spec(alpha=8.0, learning_rate=2e-3).trial_id


def test_one_baseline_serves_every_arm_of_a_quantization(make_spec: SpecMaker) -> None:
    arms = [
        make_spec(rank=rank, seed=seed, steps=steps, quantization=quantization, learning_rate=rate)
        for quantization in QUANTIZATIONS
        for rank, seed, steps, rate in ((4, 0, 4, 1e-4), (8, 1, 9, 1e-3))
    ]
    baselines = {arm.baseline().trial_id for arm in arms}
    assert len(baselines) == len(QUANTIZATIONS)
    assert all(arm.baseline().placement.is_baseline for arm in arms)
    other_rows = make_spec(train=Source(path=Path("/t"), sha256="other"))
    assert other_rows.baseline().trial_id not in baselines


def test_the_baseline_of_a_continued_trial_has_no_parent(make_spec: SpecMaker) -> None:
    continued = make_spec(init_from=Source(path=Path("/parent"), sha256="abc"), optimizer="resumed")
    assert continued.baseline() == make_spec().baseline()
    assert parse_spec(continued.baseline().model_dump(mode="json")) == continued.baseline()


def test_a_curriculum_has_a_baseline_of_its_own(make_spec: SpecMaker) -> None:
    staged = make_spec(earlier=(Source(path=Path("/stage-1"), sha256="abc"),))
    assert staged.baseline().trial_id != make_spec().baseline().trial_id


def test_the_rows_of_a_step_grow_and_are_all_counted(make_spec: SpecMaker) -> None:
    spec = make_spec(steps=10, batch_rows=4, accumulation_steps=4, batch_warmup_ratio=0.5)
    rows = [spec.rows_at(step) for step in range(10)]
    assert rows[0] == 4
    assert rows == sorted(rows)
    assert rows[5:] == [16] * 5
    assert [spec.rows_before(step) for step in range(11)] == [sum(rows[:step]) for step in range(11)]
    assert make_spec(steps=10).rows_before(10) == 10 * make_spec().effective_rows


def test_a_spec_is_frozen_and_hashable(make_spec: SpecMaker) -> None:
    spec = make_spec()
    with pytest.raises(ValidationError):
        spec.rank = 8
    assert hash(spec) == hash(make_spec())


def test_canonical_json_does_not_depend_on_order_and_refuses_nan() -> None:
    assert canonical_json({"b": 1, "a": "图"}) == canonical_json({"a": "图", "b": 1}) == '{"a":"图","b":1}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json({"a": float("nan")})


def test_the_second_beta_is_a_part_of_the_identity_unless_it_is_the_default(make_spec: SpecMaker) -> None:
    spec = make_spec()
    assert "adam_beta2" not in spec.identity() and make_spec(adam_beta2=0.999).trial_id == spec.trial_id
    other = make_spec(adam_beta2=0.95)
    assert other.trial_id != spec.trial_id and other.identity()["adam_beta2"] == 0.95
    assert other.baseline().trial_id == spec.baseline().trial_id  # a baseline does not train
    for value in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="adam_beta2"):
            make_spec(adam_beta2=value)


def test_a_copy_with_other_values_has_an_id_of_its_own_and_equal_specs_stay_equal(make_spec: SpecMaker) -> None:
    first = make_spec(placement=Placement(language=1))
    known = first.trial_id
    other = first.model_copy(update={"rank": 3})
    assert other.trial_id != known == first.model_copy(update={"name": "again"}).trial_id
    assert other.trial_id == parse(make_spec, placement={"language": 1}, rank=3).trial_id
    assert first == make_spec(placement=Placement(language=1)) and "trial_id" not in first.model_dump()
    assert pickle.loads(pickle.dumps(first)).trial_id == known  # noqa: S301 our own
