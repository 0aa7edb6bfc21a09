"""Tests that a member that fails, ends or leaves does not affect the others of its cohort."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
from small_trials import Sources, SpecMaker, never
from together import ALL_AT_ONCE, Together, Watched, apart

from trainables.cohort.cohort import Cohort
from trainables.cohort.cuts import ALONE, Cut
from trainables.cohort.evaluator import CohortEvaluator
from trainables.engine import Engine
from trainables.guards import Ceiling
from trainables.io.files import read_json
from trainables.memory_file import WHOLE, Fit
from trainables.phase import PhaseFile, PhaseName, TrialPhase, read_phase
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import Placement, TrialSpec

DEPTHS = {"a": (2, 0), "b": (0, 2), "c": (1, 1), "d": (3, 0), "e": (1, 0), "f": (2, 0)}
PRUNES = (Ceiling("eval_loss", max_absolute_rise=-1e9, patience_evals=1),)


@pytest.fixture
def double(sources: Sources) -> Iterator[Engine]:
    with packed.all_double():
        yield packed.double_engine(sources)


@pytest.fixture
def base_line(double: Engine, sources: Sources) -> Baseline:
    return packed.short_baseline(packed.double_engine, sources)


def members(make: SpecMaker, names: str, **changes: Any) -> list[TrialSpec]:
    common = {"batch_rows": 1, "steps": 4, "eval_every_steps": 4, **changes}
    return [make(name=name, placement=Placement(language=DEPTHS[name][0], vision=DEPTHS[name][1]),
                 seed=ord(name), **common) for name in names]  # fmt: skip


@pytest.fixture(scope="module")
def healthy(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Together:
    """Six members that all complete: the reference for cohorts of some of them."""
    with packed.all_double():
        engine, baseline = packed.double_engine(sources), packed.short_baseline(packed.double_engine, sources)
        together = Together(engine, baseline, tmp_path_factory.mktemp("healthy"), members(sources.spec, "abcdef"))
        assert set(together.finish().ends.values()) == {"completed"}
        return together


def assert_unaffected(one: Together, other: Together, names: str) -> None:
    """Compare curves and evals of the members in both; the last digit may depend on the other members of a pass."""
    for name in names:
        assert apart(one.watched.curves[name], other.watched.curves[name]) < 1e-12, name
        own, its = one.record(name).evals(), other.record(name).evals()
        assert [eval_.step for eval_ in own] == [eval_.step for eval_ in its] != []
        for mine, yours in zip(own, its, strict=True):
            assert mine.metrics["eval_loss"] == pytest.approx(yours.metrics["eval_loss"], rel=1e-12)


# -------------------------------------------------------------------- who may be together
def test_members_must_share_what_a_pass_and_an_eval_take(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    one, two = members(make_spec, "ab")
    for number, change in enumerate([{"data_seed": 1}, {"batch_rows": 2}, {"accumulation_steps": 2}, {"steps": 8}]):
        with pytest.raises(ValueError, match="but 2 differ"):
            Together(double, base_line, tmp_path / str(number), [one, two.model_copy(update=change)])
    free = {"rank": 2, "alpha": 3.0, "dropout": 0.3, "rslora": True, "learning_rate": 1.0, "weight_decay": 0.5}
    cohort = Together(double, base_line, tmp_path / "free", [one, two.model_copy(update=free)]).cohort
    assert len(cohort.trials) == 2
    cohort.remove()


# -------------------------------------------------------------------- what is shown
def test_each_member_shows_its_phase_and_a_record_without_it_has_the_same_files(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str, int]] = []
    write = PhaseFile.show

    def watched(shown: PhaseFile, name: PhaseName, step: int = 0) -> None:
        seen.append((shown.directory.name, name, step))
        write(shown, name, step)

    monkeypatch.setattr(PhaseFile, "show", watched)
    together = Together(double, base_line, tmp_path, members(make_spec, "ab")).finish()
    steps = [("training", step) for step in range(5)]
    assert [one[1:] for one in seen if one[0] == together.record("a").name] == [*steps, ("eval", 4)]
    for name in "ab":
        record = together.record(name)
        assert read_phase(record.directory) == TrialPhase("eval", 4)
        assert read_json(record.directory / "manifest.json")["sha256"] == record.digests()
        assert not [path for path in record.digests() if "phase" in path]


# -------------------------------------------------------------------- who breaks
def test_a_member_that_turns_nan_leaves_alone(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, healthy: Together, tmp_path: Path
) -> None:
    broken = Together(double, base_line, tmp_path, members(make_spec, "abcd"), breaks={"a": 1, "c": 2}).finish()
    assert broken.ends == {
        "a": "invalid(non_finite_loss)", "b": "completed", "c": "invalid(non_finite_loss)", "d": "completed"
    }  # fmt: skip
    assert (broken.ended["a"].step, broken.ended["c"].step) == (2, 3)
    assert_unaffected(broken, healthy, "bd")
    assert broken.record("a").checkpoint_steps() == []


def test_nan_weights_before_an_eval_are_reported_for_their_member_only(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, healthy: Together, tmp_path: Path
) -> None:
    broken = Together(double, base_line, tmp_path, members(make_spec, "ab"), breaks={"a": 4}).finish()
    assert broken.ends == {"a": "invalid(non_finite_eval)", "b": "completed"}
    assert broken.record("a").measurements() == []
    assert_unaffected(broken, healthy, "b")


# -------------------------------------------------------------------- who does not fit the device
def too_large(monkeypatch: pytest.MonkeyPatch, width: int, refuse: tuple[str, ...] = ()) -> list[list[str]]:
    """Refuse every backward pass of more than `width` members, or with one of `refuse`; returns passes asked for."""
    asked: list[list[str]] = []
    backward = Cohort._backward

    def planted(cohort: Cohort, numbers: Sequence[int], batches: Any, fit: Fit = WHOLE) -> dict[int, float]:
        names = [cohort.trials[number].spec.name for number in numbers]
        asked.append(names)
        if len(numbers) > width or set(refuse) & set(names):
            backward(cohort, numbers, batches, fit)  # gradients are there already when memory runs out
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 1 GiB")
        return backward(cohort, numbers, batches, fit)

    monkeypatch.setattr(Cohort, "_backward", planted)
    return asked


@pytest.mark.parametrize("fits", [2, 1])
def test_out_of_memory_halves_the_pass_and_changes_no_result(
    fits: int, double: Engine, base_line: Baseline, make_spec: SpecMaker, healthy: Together, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked = too_large(monkeypatch, fits)
    full = Together(double, base_line, tmp_path, members(make_spec, "adef")).finish()
    assert full.cohort.cut == Cut((), fits)
    sizes = [len(names) for names in asked]
    assert sizes == [4, 2, 2] + [2, 2] * 3 if fits == 2 else sizes == [4, 2, 1, 1, 2, 1, 1] + [1] * 12
    assert set(full.ends.values()) == {"completed"}
    assert_unaffected(full, healthy, "adef")


def test_a_member_that_does_not_fit_alone_is_infeasible_and_the_others_continue(
    double: Engine,
    base_line: Baseline,
    make_spec: SpecMaker,
    healthy: Together,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    too_large(monkeypatch, 4, refuse=("d",))
    full = Together(double, base_line, tmp_path, members(make_spec, "abd")).finish()
    assert full.ends == {"a": "completed", "b": "completed", "d": "infeasible(memory)"}
    assert (full.ended["d"].reason or "").startswith("CUDA out of memory. (whole micro-batches, activations computed")
    assert full.record("d").verdict() == full.ended["d"]
    assert_unaffected(full, healthy, "ab")


def test_a_cohort_without_a_member_that_fits_ends(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_large(monkeypatch, 0)
    full = Together(double, base_line, tmp_path, members(make_spec, "ab"), cut=None).finish()
    assert set(full.ends.values()) == {"infeasible(memory)"} and len(full.ends) == 2


def test_an_eval_that_does_not_fit_is_measured_in_parts(
    double: Engine,
    base_line: Baseline,
    make_spec: SpecMaker,
    healthy: Together,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    measure = CohortEvaluator.measure

    def planted(joint: CohortEvaluator, baselines: Any, step: int, drafts: Any) -> Any:
        asked.append(len(baselines))
        if len(baselines) > 1 or 2 in baselines:
            raise torch.OutOfMemoryError("planted")
        return measure(joint, baselines, step, drafts)

    monkeypatch.setattr(CohortEvaluator, "measure", planted)
    full = Together(double, base_line, tmp_path, members(make_spec, "abd")).finish()
    assert asked == [3, 1, 1, 1]
    assert full.ends == {"a": "completed", "b": "completed", "d": "infeasible(memory)"}
    assert_unaffected(full, healthy, "ab")


def test_calibration_steps_change_no_weights(
    double: Engine,
    base_line: Baseline,
    make_spec: SpecMaker,
    healthy: Together,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = too_large(monkeypatch, 1)
    found = Together(double, base_line, tmp_path, members(make_spec, "abd"), cut=None).finish()
    assert found.cohort.cut == ALONE
    # each alone twice, one pass of all and two passes once, because they do not fit; then four steps
    assert [len(names) for names in asked] == [1, 1, 1] + [3] + [2] + [1, 1, 1] + [1, 1, 1] * 4
    assert_unaffected(found, healthy, "abd")


# -------------------------------------------------------------------- who ends or goes
def test_a_pruned_member_ends_at_its_eval_and_one_that_leaves_keeps_its_checkpoint(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, healthy: Together, tmp_path: Path
) -> None:
    specs = members(make_spec, "abde", eval_every_steps=2)
    some = Together(double, base_line, tmp_path, specs)
    some.cohort.trials[0].guards = PRUNES
    assert some.advance() == ["a"]
    some.cohort.leave(specs[2].trial_id)
    assert [trial.spec.name for trial in some.cohort.trials] == ["b", "e"]
    some.finish()
    assert some.ends == {"a": "pruned(eval_loss)", "b": "completed", "e": "completed"}
    assert (some.ended["a"].step, some.record("d").verdict()) == (2, None)
    assert some.record("d").checkpoint_steps() == [2]
    for name in "be":
        assert apart(some.watched.curves[name], healthy.watched.curves[name]) < 1e-12


def test_a_stop_writes_all_checkpoints_and_a_new_cohort_continues_there(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, healthy: Together, tmp_path: Path
) -> None:
    stopped = Together(double, base_line, tmp_path, members(make_spec, "ab"))
    first = stopped.cohort.trials[0]
    assert stopped.advance(lambda: first.step == 3) == []
    stopped.cohort.remove()
    assert [stopped.record(name).checkpoint_steps() for name in "ab"] == [[3], [3]]
    again = []
    for trial in stopped.cohort.trials:
        resumed = Watched(double, base_line, tmp_path)
        resumed.curves[trial.spec.name] = stopped.watched.curves[trial.spec.name]
        again.append(resumed.opened([trial.spec])[0])
    cohort = Cohort(double, again, ALL_AT_ONCE)
    assert set(map(str, cohort.advance(never).values())) == {"completed"}
    cohort.remove()
    assert_unaffected(stopped, healthy, "ab")


def test_members_are_cut_by_their_lowest_adapted_layer(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    """First and spaced layers leave the frozen trunk as early as all layers do, however few they are."""
    placements = {
        "first": Placement(language=2, language_indices=(0, 1)),
        "spaced": Placement(language=2, language_indices=(3, 7), vision=2, vision_indices=(1, 11)),
        "last": Placement(language=2, vision=2, modules="attention"),
    }
    specs = [make_spec(name=name, placement=one) for name, one in placements.items()]
    together = Together(double, base_line, tmp_path, specs)
    try:
        members = {specs[one.number].name: (one.language, one.vision) for one in together.cohort._members()}
    finally:
        together.cohort.remove()
    assert members == {"first": (8, 0), "spaced": (5, 11), "last": (2, 2)}


def test_a_row_that_is_too_long_ends_all_with_the_reason(
    double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path
) -> None:
    ended = Together(double, base_line, tmp_path, members(make_spec, "ab", max_tokens=8)).finish()
    assert ended.ends == {"a": "infeasible(input)", "b": "infeasible(input)"}
    assert "must fit max_tokens = 8" in str(ended.ended["a"].reason)


def test_a_cohort_restores_the_base(double: Engine, base_line: Baseline, make_spec: SpecMaker, tmp_path: Path) -> None:
    model = double.base.model
    hooks = [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in model.modules()]
    Together(double, base_line, tmp_path, members(make_spec, "ac", steps=1)).finish()
    assert [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in model.modules()] == hooks
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
    assert double.evaluator.measure(None)[0].metrics == base_line.metrics


# -------------------------------------------------------------------- what is saved
def test_a_saved_adapter_loads_in_plain_peft_and_gives_the_same_logits(
    sources: Sources, make_spec: SpecMaker, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import Qwen3VLForConditionalGeneration

    engine, baseline = packed.plain_engine(sources), packed.short_baseline(packed.plain_engine, sources)
    kinds: list[dict[str, Any]] = [
        {"placement": Placement(language=3), "rank": 2, "alpha": 8.0, "rslora": True},
        {"placement": Placement(language=1, vision=4), "rank": 4, "alpha": 32.0},
    ]
    common = {"batch_rows": 1, "steps": 6, "eval_every_steps": 3, "learning_rate": 2e-2, "vision_learning_rate": 2e-2}
    specs = [make_spec(name=str(number), **one, **common) for number, one in enumerate(kinds)]
    together = Together(engine, baseline, tmp_path, specs)
    together.advance()
    batch = packed.batches(engine)["mixed"]
    with torch.no_grad():
        out = together.cohort.shared.logits(batch, (0, 1))
        plain = packed.label_logits(engine.base, batch)[0]
    together.cohort.remove()
    for number, spec in enumerate(specs):
        checkpoint = Record(tmp_path / spec.name).checkpoint(3)
        fresh = Qwen3VLForConditionalGeneration.from_pretrained(spec.base.path, dtype=torch.float32)
        loaded = PeftModel.from_pretrained(fresh, str(checkpoint)).eval()
        with torch.no_grad():
            whole = loaded(**batch.inputs).logits
        expected = whole[:, :-1][batch.labels[:, 1:] != -100]
        found = out.values[out.groups.index((number,))]
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
        assert (found - plain).abs().max() > 1e-2  # it has learned something that could be lost
        assert read_json(checkpoint / "adapter_config.json")["r"] == spec.rank
