"""Mixes: what `--mix` accepts, the trials with each of them, and what their data must not hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.planning.data_checks import check_data
from sweeps.planning.forecast import forecast
from sweeps.planning.holdout import check_not_replayed, gather_holdout
from sweeps.planning.mixes import AskedMix, Mix, expand_mixes, mix_text, parse_mixes, read_mixes, replayed
from sweeps.planning.pilots import pilot_arms
from sweeps.planning.sources import Sources, gather
from sweeps.planning.space import Axes, expand
from sweeps.planning.trial_checks import check_packable
from sweeps.stage4 import STUDY
from sweeps.study import PREFLIGHT_LIMITS
from sweeps.tracking.mlflow_fields import params_of
from tests.sweeps.planned_trials import sources, trial
from trainables.data.ood import read_ood
from trainables.data.scan import Scan, ScannedRow
from trainables.errors import UserError
from trainables.mini import BASE_DIRECTORY
from trainables.sharing_keys import cohort_key, engine_key
from trainables.spec import Source, TrialSpec

GENERAL = Source(path=Path("/data/general.jsonl"), sha256="general")
OTHER = Source(path=Path("/data/other.jsonl"), sha256="other")
ONE = Axes(only=("C2",), fixed={"epochs": 2.0, "batch_rows": 1, "accumulation_steps": 10})


def trained(*mixes: Mix, axes: Axes = ONE, rows: int = 900) -> list[TrialSpec]:
    specs = expand_mixes(STUDY, axes, sources(train_rows=rows), mixes)
    return [one for one in specs if not one.placement.is_baseline]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("a.jsonl:0.1", [("a.jsonl", 0.1)]),
        ("a.jsonl:0,0.1,0.25", [("a.jsonl", 0.0), ("a.jsonl", 0.1), ("a.jsonl", 0.25)]),
        ("a.jsonl:0,a.jsonl:0.1", [("a.jsonl", 0.0), ("a.jsonl", 0.1)]),
        ("a.jsonl:0.1, b.jsonl:0.1", [("a.jsonl", 0.1), ("b.jsonl", 0.1)]),
        ("a.jsonl,b.jsonl:0.1,0.2", [("a.jsonl,b.jsonl", 0.1), ("a.jsonl,b.jsonl", 0.2)]),
        ("dataset_info.json:general:0.1", [("dataset_info.json:general", 0.1)]),
    ],
)
def test_mixes_are_files_with_ratios(text: str, found: list[tuple[str, float]]) -> None:
    assert parse_mixes(text) == tuple(AskedMix(Path(path), ratio) for path, ratio in found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.jsonl", "must be FILE:RATIO"),
        ("0.1", "must be FILE:RATIO"),
        ("a.jsonl:0.1,b.jsonl", "must be FILE:RATIO"),
        ("a.jsonl:x", "must be FILE:RATIO"),
        ("a.jsonl:1", "at least 0 and below 1"),
        ("a.jsonl:1.5", "at least 0 and below 1"),
        ("a.jsonl:-0.1", "at least 0 and below 1"),
        ("a.jsonl:nan", "at least 0 and below 1"),
        ("a.jsonl:inf", "at least 0 and below 1"),
        ("a.jsonl:0.1,7", "at least 0 and below 1"),
        ("a.jsonl:0.1,0.1", "every mix once"),
        ("a.jsonl:0,b.jsonl:0", "every mix once"),
        (",", "both sides"),
    ],
)
def test_other_mixes_are_refused_with_a_hint_that_works(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        parse_mixes(text)
    assert parse_mixes((refused.value.hint or "").split("--mix ")[-1])


def test_a_budget_in_epochs_sees_the_task_rows_as_often_as_without_replay() -> None:
    plain, tenth, half = trained(Mix(None, 0.0), Mix(GENERAL, 0.1, 50), Mix(GENERAL, 0.5, 50))

    assert (plain.steps, tenth.steps, half.steps) == (180, 200, 360)
    specs = [
        one.model_copy(update={"base": Source(path=BASE_DIRECTORY, sha256="base")}) for one in (plain, tenth, half)
    ]
    assert [one.coverage_epochs for one in forecast(specs, 900)] == pytest.approx([2.0, 2.0, 2.0])


def test_a_budget_in_steps_stays() -> None:
    axes = replace(ONE, fixed={"steps": 90})
    assert {one.steps for one in trained(Mix(None, 0.0), Mix(GENERAL, 0.1), axes=axes)} == {90}


def test_a_ratio_of_zero_is_the_trial_without_replay() -> None:
    [plain, _] = trained(Mix(None, 0.0), Mix(GENERAL, 0.1))

    assert plain.trial_id == expand(STUDY, ONE, sources(train_rows=900))[-1].trial_id
    assert trained()[0].trial_id == plain.trial_id and trained()[0].name == "C2"


def test_mixes_have_their_own_cohorts_and_names_and_share_base_and_baseline() -> None:
    axes = replace(ONE, fixed={"steps": 90}, seeds=2)
    specs = expand_mixes(
        STUDY, axes, sources(), (Mix(None, 0.0), Mix(GENERAL, 0.1), Mix(GENERAL, 0.2), Mix(OTHER, 0.1))
    )
    arms = specs[1:]

    assert [one.name for one in specs[:3]] == ["A0", "C2-s0-mix0", "C2-s1-mix0"]
    assert [one.name for one in arms[2::2]] == ["C2-s0-mix0.1-general", "C2-s0-mix0.2-general", "C2-s0-mix0.1-other"]
    assert len({cohort_key(one) for one in arms}) == 4 and len({engine_key(one) for one in specs}) == 1
    assert len({one.trial_id for one in specs}) == 9 and {one.arm for one in arms} == {"C2"}
    assert len({one.baseline().trial_id for one in arms}) == 1 and specs[0].replay is None
    assert replayed(specs) == (GENERAL, OTHER) and len(pilot_arms(specs)) == 4


def test_mlflow_tells_mixes_apart() -> None:
    plain, tenth = (params_of(one) for one in trained(Mix(None, 0.0), Mix(GENERAL, 0.1)))

    assert plain["replay_ratio"] == "0.0" and "replay" not in plain
    assert (tenth["replay_ratio"], tenth["replay"]) == ("0.1", "general.jsonl@general")


@pytest.mark.parametrize("changes", [{"replay": GENERAL}, {"replay_ratio": 0.1}])
def test_a_trial_has_replay_rows_and_a_ratio_or_neither(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="both its rows and a replay_ratio"):
        TrialSpec.model_validate({**trial().model_dump(), **changes})


# -------------------------------------------------------------------- files
def rows_in(path: Path, *pairs: tuple[str, str]) -> Path:
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]
    path.write_text("".join(json.dumps({"id": f"g{n}", "messages": one}) + "\n" for n, one in enumerate(turns)))
    return path


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return gather(None, None, None, None, tmp_path_factory.mktemp("mini") / "data", "text")


def test_replay_rows_are_read_and_hashed_once(tmp_path: Path, mini: Sources) -> None:
    path = rows_in(tmp_path / "general.jsonl", ("say red", "red"), ("say blue", "blue"))

    none, tenth, fifth = read_mixes([AskedMix(path, ratio) for ratio in (0.0, 0.1, 0.2)], mini)

    assert none == Mix(None, 0.0) and tenth.source == fifth.source and (tenth.rows, tenth.ratio) == (2, 0.1)
    assert tenth.source and tenth.source.path == path
    rows_in(path, ("say red", "red"), ("say blue", "green"))
    assert read_mixes([AskedMix(path, 0.1)], mini)[0].source != tenth.source


@pytest.mark.parametrize("ratio", [0.0, 0.1])
def test_a_missing_empty_or_broken_file_is_refused(tmp_path: Path, mini: Sources, ratio: float) -> None:
    for content, said in ((None, "must exist"), ("", "row"), ('{"id": 1}\n', "row|key|messages")):
        path = tmp_path / "general.jsonl"
        if content is not None:
            path.write_text(content)
        with pytest.raises(UserError, match=said) as refused:
            read_mixes([AskedMix(path, ratio)], mini)
        assert "general.jsonl" in refused.value.message


def test_validation_rows_must_not_be_replayed(tmp_path: Path, mini: Sources) -> None:
    with pytest.raises(UserError, match="validation rows must not be in replay, but 64"):
        read_mixes([AskedMix(mini.validation.path, 0.1)], mini)


def scanned(row_id: str, question: str, **values: object) -> ScannedRow:
    return ScannedRow(row_id, question, f"answer-{row_id}", tokens=20, supervised_tokens=5, **values)  # type: ignore[arg-type]


def test_a_row_of_the_probes_that_is_replayed_is_a_leak() -> None:
    train = tuple(scanned(f"t{number}", f"task {number}") for number in range(20))
    ood = tuple(scanned(f"o{number}", f"probe {number}") for number in range(4))
    clean = Scan(train, train[:0], ood, (scanned("g0", "general"),))
    leaky = replace(clean, replay=(scanned("g0", "probe 1"), scanned("g1", "other", pictures=("p",))))

    def found(scan: Scan) -> set[tuple[str, str]]:
        found = check_data(scan, PREFLIGHT_LIMITS)
        return {(one.level, one.message) for one in found if "leak" in one.check}

    assert not found(clean)
    assert found(leaky) == {
        ("refuse", "a question of ood must not also be in replay, but in 1 of 4 (o1) it is")
    }  # 25 %, above the limit of a tenth
    ood = (*ood[:-1], replace(ood[-1], pictures=("p",)))
    assert ("refuse", "a picture of ood must not also be in replay, but in 1 of 4 (o3) it is") in found(
        replace(leaky, ood=ood)
    )


def test_replay_rows_are_checked_as_training_rows() -> None:
    rows = tuple(scanned(f"t{number}", f"task {number}") for number in range(20))
    broken = replace(scanned("g0", "general"), problem="has no vision tower", tokens=0, supervised_tokens=0)
    findings = {one.check: one for one in check_data(Scan(rows, rows[:0], rows[:0], (broken,)), PREFLIGHT_LIMITS)}

    assert findings["encoding"].level == "refuse" and "every row of replay must be encodable" in (
        findings["encoding"].message
    )
    spec = trial(packed_tokens=4096)
    with pytest.raises(UserError, match="1 of 21 training rows have a picture, the first is `g1`"):
        check_packable([spec], Scan(rows, (), (), (scanned("g1", "x", pictures=("p",)),)))


def test_the_plan_says_what_is_replayed() -> None:
    from sweeps.planning.data_quality import quality_of

    rows = tuple(scanned(f"t{number}", f"task {number}") for number in range(3))
    data = quality_of(Scan(rows, rows, rows, rows[:2]))

    assert "a share of 0.1 of the rows trained on is of general.jsonl (2 rows)" in mix_text(
        trained(Mix(GENERAL, 0.1)), data
    )
    assert "replay" not in quality_of(Scan(rows, rows, rows)) and not mix_text(trained(), data)


def test_rows_of_the_holdout_must_not_be_replayed(tmp_path: Path, mini: Sources) -> None:
    holdout = gather_holdout(None, None, mini, own_rows=False)
    assert holdout is not None
    test_rows = Source(path=holdout.test.path, sha256="replayed")
    with pytest.raises(UserError, match="test rows must not be in replay"):
        check_not_replayed(holdout, (test_rows,))
    question = next(row for row in read_ood(holdout.ood_test.path, ()) if not row.images)
    path = rows_in(tmp_path / "general.jsonl", ("say red", "red"), (question.messages[-1].text.upper(), "any answer"))
    with pytest.raises(UserError, match=f"must not be replayed, but 1 are, the first is `{question.row_id}`"):
        check_not_replayed(holdout, (Source(path=path, sha256="general"),))
    rows_in(path, ("say red", "red"))
    check_not_replayed(holdout, (Source(path=path, sha256="clean"),))
