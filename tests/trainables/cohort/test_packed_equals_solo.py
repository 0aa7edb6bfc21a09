"""Tests that packed equals solo in float64: 1e-10 for gradients, 1e-8 for loss curves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import packed
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packed import LANGUAGE_LAYERS, VISION_BLOCKS
from small_trials import CLOCK_METRICS, Sources, SpecMaker, never
from together import Watched, apart, train_alone, train_packed

from trainables.cohort.cohort import Cohort
from trainables.cohort.cuts import Cut, Member, passes
from trainables.cohort.shared_forward import SharedForward
from trainables.engine import Engine
from trainables.guards import Ceiling
from trainables.model.dropout import Masks
from trainables.placement import MODULE_KINDS, ModuleKind
from trainables.record import Record
from trainables.spec import Placement, TrialSpec

GRADIENTS, CURVES, LAST_DIGIT = 1e-10, 1e-8, 1e-12
PRUNES = (Ceiling("eval_loss", max_absolute_rise=-1e9, patience_evals=1),)


@pytest.fixture
def double() -> Iterator[None]:
    with packed.all_double():
        yield


def assert_equal_gradients(
    engine: Engine, specs: list[TrialSpec], kinds: list[str], share: bool = True, cut: Cut | None = None
) -> None:
    batches = {kind: one for kind, one in packed.batches(engine).items() if kind in kinds}
    solo = [packed.alone(engine, spec, batches) for spec in specs]
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs), share)
    everyone = [
        Member(number, one.placement.depth("language", LANGUAGE_LAYERS), one.placement.depth("vision", VISION_BLOCKS))
        for number, one in enumerate(specs)
    ]
    try:
        for kind, batch in batches.items():
            for numbers in passes(everyone, cut or Cut((), len(specs))):
                for number, (loss, gradients) in packed.packed(shared, numbers, batch).items():
                    alone, expected = solo[number][kind]
                    where = f"{specs[number].name} on {kind} rows, beside {numbers}"
                    assert abs(loss - alone) < GRADIENTS, where
                    assert packed.furthest(gradients, expected) < GRADIENTS, where
    finally:
        shared.remove()


# -------------------------------------------------------------------- gradients
@pytest.mark.parametrize(
    ("nf4", "kinds"),
    [
        (False, ["mixed"]),
        pytest.param(False, ["image", "text"], marks=pytest.mark.slow),
        pytest.param(True, ["mixed"], marks=pytest.mark.slow),
    ],
)
def test_gradients_of_every_depth_equal_those_of_a_trial_alone(
    nf4: bool, kinds: list[str], sources: Sources, make_spec: SpecMaker, double: None
) -> None:
    """Thirteen members in one pass: every depth of both towers, four ranks, alphas, rsLoRA, dropout, three seeds."""
    specs = packed.mixed_members(make_spec)
    assert {spec.placement.language for spec in specs} == set(range(LANGUAGE_LAYERS + 1))
    assert {spec.placement.vision for spec in specs} == set(range(VISION_BLOCKS + 1))
    assert_equal_gradients(packed.double_engine(sources, nf4), specs, kinds)


@pytest.mark.parametrize("kinds", [["mixed"], pytest.param(["image", "text"], marks=pytest.mark.slow)])
def test_gradients_of_any_layers_and_kinds_equal_those_of_a_trial_alone(
    kinds: list[str], sources: Sources, make_spec: SpecMaker, double: None
) -> None:
    """First, spaced and last layers of one or both towers, of every kind of linears, in one pass."""
    assert_equal_gradients(packed.double_engine(sources), packed.selected_members(make_spec), kinds)


@pytest.mark.slow
@pytest.mark.parametrize("nf4", [False, True])
def test_gradients_of_every_placement_equal_those_of_a_trial_alone(
    nf4: bool, sources: Sources, make_spec: SpecMaker, double: None
) -> None:
    both = itertools.product(range(LANGUAGE_LAYERS + 1), range(VISION_BLOCKS + 1))
    specs = [
        make_spec(
            name=f"L{language}-V{vision}", placement=Placement(language=language, vision=vision),
            rank=1 + (language + vision) % 6, rslora=vision % 2 == 0, seed=language % 2,
        )
        for language, vision in both if language or vision
    ]  # fmt: skip
    assert len(specs) == 116
    assert_equal_gradients(packed.double_engine(sources, nf4), specs, ["image", "mixed"], cut=Cut(((1, 0),), 20))


PLACEMENTS = st.tuples(st.integers(0, LANGUAGE_LAYERS), st.integers(0, VISION_BLOCKS)).filter(any)


def selection(language: set[int], vision: set[int], modules: ModuleKind) -> Placement:
    return Placement(
        language=len(language), language_indices=tuple(sorted(language)), vision=len(vision),
        vision_indices=tuple(sorted(vision)), modules=modules,
    )  # fmt: skip


SELECTIONS = (
    st.tuples(
        st.sets(st.integers(0, LANGUAGE_LAYERS - 1), max_size=4),
        st.sets(st.integers(0, VISION_BLOCKS - 1), max_size=4),
        st.sampled_from(MODULE_KINDS),
    )
    .filter(lambda one: any(one[:2]))
    .map(lambda one: selection(*one))
)
MEMBERS = st.fixed_dictionaries(
    {
        "placement": PLACEMENTS.map(lambda both: Placement(language=both[0], vision=both[1])) | SELECTIONS,
        "rank": st.integers(1, 8),
        "alpha": st.sampled_from([1.0, 8.0, 32.0]),
        "dropout": st.sampled_from([0.0, 0.1, 0.5]),
        "rslora": st.booleans(),
        "seed": st.integers(0, 2),
    }
)
COHORTS = {
    "members": st.lists(MEMBERS, min_size=2, max_size=5),
    "kind": st.sampled_from(["image", "text", "mixed"]),
    "share": st.booleans(),
    "cut": st.builds(Cut, st.just(()) | st.tuples(PLACEMENTS), st.integers(1, 5)),
}


def assert_random_cohort(sources: Sources, members: list[dict[str, Any]], kind: str, share: bool, cut: Cut) -> None:
    with packed.all_double():
        specs = [sources.spec(name=f"member {number}", **one) for number, one in enumerate(members)]
        assert_equal_gradients(packed.double_engine(sources), specs, [kind], share, cut)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(**COHORTS)
def test_gradients_of_any_cohort_equal_those_of_its_members_alone(sources: Sources, **cohort: Any) -> None:
    assert_random_cohort(sources, **cohort)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(**COHORTS)
@pytest.mark.timeout(1800)
def test_gradients_of_very_many_cohorts_equal_those_of_their_members_alone(sources: Sources, **cohort: Any) -> None:
    assert_random_cohort(sources, **cohort)


def test_the_comparison_sees_a_mask_of_another_step(sources: Sources, make_spec: SpecMaker, double: None) -> None:
    specs, engine = packed.mixed_members(make_spec)[:2], packed.double_engine(sources)
    dropped = [spec.model_copy(update={"dropout": 0.1}) for spec in specs]
    batches = {"image": packed.batches(engine)["image"]}
    expected = packed.alone(engine, dropped[0], batches)["image"]
    adapters = packed.lifted(engine.base, dropped)
    adapters[0].masks.step = 1
    shared = SharedForward(engine.base, adapters)
    found = packed.packed(shared, (0, 1), batches["image"])[0]
    shared.remove()
    assert packed.furthest(found[1], expected[1]) > 1e-3


def test_a_member_draws_the_masks_that_it_draws_alone(
    sources: Sources, make_spec: SpecMaker, double: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, drawn = packed.double_engine(sources), {}
    keep = Masks.keep

    def watched(masks: Masks, layer: str, like: torch.Tensor) -> torch.Tensor:
        drawn[masks.key, layer] = keep(masks, layer, like).flatten()
        return drawn[masks.key, layer].view(like.shape)

    monkeypatch.setattr(Masks, "keep", watched)
    specs = [
        make_spec(name=str(seed), placement=Placement(language=3, vision=vision), seed=seed, dropout=0.2)
        for seed, vision in enumerate((0, 2, 5))
    ]
    batches = packed.batches(engine)
    for spec in specs:
        packed.alone(engine, spec, {"mixed": batches["mixed"]})
    alone = dict(drawn)
    drawn.clear()
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs))
    packed.packed(shared, (0, 1, 2), batches["mixed"])
    shared.remove()
    assert drawn.keys() == alone.keys() and len(drawn) == 3 * 21 + 7 * 4
    assert all(torch.equal(mask, alone[key]) for key, mask in drawn.items())


# -------------------------------------------------------------------- curves
def curve_members(make: SpecMaker) -> list[TrialSpec]:
    """Two that stay for twenty steps, one to be pruned, one to break between two evals, one to be taken out."""
    common: dict[str, Any] = {"steps": 20, "eval_every_steps": 10, "accumulation_steps": 2, "batch_rows": 1}
    kinds: dict[str, dict[str, Any]] = {
        "language": {"placement": Placement(language=2), "dropout": 0.1},
        "both": {"placement": Placement(language=3, vision=1), "dropout": 0.5, "learning_rate": 1e-3, "rank": 6},
        "broken": {"placement": Placement(language=1, vision=2), "warmup_ratio": 0.5, "seed": 2},
        "pruned": {"placement": Placement(language=1, vision=1), "max_gradient_norm": 0.01},
        "taken out": {"placement": Placement(vision=2), "rank": 2, "rslora": True, "seed": 1, "alpha": 2.0},
    }
    return [make(name=name, **{**common, **settings}) for name, settings in kinds.items()]


BREAKS = {"broken": 5}
STAYING = ("language", "both")


@dataclass
class Runs:
    """The same trials alone, in one cohort, and those that stay in a cohort of their own."""

    alone: Watched
    cohort: Watched
    left_alone: Watched
    ended: dict[str, str] = field(default_factory=dict)


def run_together(watched: Watched, specs: list[TrialSpec], taken_out: str | None, cut: Cut) -> dict[str, str]:
    trials = watched.opened(specs)
    for trial in trials:
        trial.guards = PRUNES if trial.spec.name == "pruned" else ()
    cohort, ended = Cohort(watched.engine, trials, cut), {}
    names = {trial.spec.trial_id: trial.spec.name for trial in trials}
    while cohort.trials:
        ended |= {names[one]: str(verdict) for one, verdict in cohort.advance(never).items()}
        if taken_out is not None and cohort.trials and cohort.trials[0].step == 10:
            cohort.leave(next(one for one, name in names.items() if name == taken_out))
    cohort.remove()
    return ended


@pytest.fixture(scope="module")
def runs(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    with packed.all_double():
        engine, baseline = packed.double_engine(sources), packed.short_baseline(packed.double_engine, sources)
        directories = [tmp_path_factory.mktemp(one) for one in ("alone", "cohort", "left-alone")]
        made = Runs(*(Watched(engine, baseline, directory, BREAKS) for directory in directories))
        specs = curve_members(sources.spec)
        for spec in specs:
            guards = PRUNES if spec.name == "pruned" else ()
            made.alone.alone(spec, guards, until=10 if spec.name == "taken out" else None)
        made.ended = run_together(made.cohort, specs, "taken out", Cut((), 3))
        run_together(made.left_alone, [one for one in specs if one.name in STAYING], None, Cut((), 3))
    return made


@pytest.mark.slow  # whole trials are compared for each family in every run
def test_loss_curves_equal_those_of_trials_alone(runs: Runs) -> None:
    lengths = {"language": 20, "both": 20, "broken": 6, "pruned": 10, "taken out": 10}
    assert {name: len(curve) for name, curve in runs.cohort.curves.items()} == lengths
    for name, curve in runs.cohort.curves.items():
        assert apart(curve, runs.alone.curves[name]) < CURVES, name
        assert len(set(curve)) == len(curve)  # they do train


@pytest.mark.slow
def test_records_of_a_cohort_are_those_of_trials_alone(runs: Runs) -> None:
    """The same steps, numbers, answers, ends, best and checkpoints."""
    for name in runs.cohort.curves:
        own, other = (Record(one.directory / name) for one in (runs.cohort, runs.alone))
        assert [(one.kind, one.step) for one in own.measurements()] == [
            (one.kind, one.step) for one in other.measurements()
        ]
        for one, two in zip(own.measurements(), other.measurements(), strict=True):
            expected = {key: value for key, value in two.metrics.items() if key not in CLOCK_METRICS}
            found = {key: value for key, value in one.metrics.items() if key not in CLOCK_METRICS}
            assert found == pytest.approx(expected, rel=CURVES, abs=CURVES)
        assert [own.samples(one.step) for one in own.evals()] == [other.samples(one.step) for one in other.evals()]
        mine, its = own.verdict(), other.verdict()
        assert (mine and (mine.kind, mine.step, mine.cause)) == (its and (its.kind, its.step, its.cause))
        assert (own.best() is None) == (other.best() is None)
        assert own.checkpoint_steps() == other.checkpoint_steps()
        assert runs.ended.get(name) == (str(mine) if mine else None)
    ended = {"broken": "invalid(non_finite_loss)", "pruned": "pruned(eval_loss)"}
    assert runs.ended == {**dict.fromkeys(STAYING, "completed"), **ended}


@pytest.mark.slow
def test_a_leaving_member_does_not_affect_the_others(runs: Runs) -> None:
    for name in STAYING:
        assert apart(runs.cohort.curves[name], runs.left_alone.curves[name]) < LAST_DIGIT, name


# -------------------------------------------------------------------- NF4 as it is, and lower precision
KINDS: tuple[dict[str, Any], ...] = (
    {"placement": Placement(language=3)},
    {"placement": Placement(vision=4), "rank": 2},
    {"placement": Placement(language=2, vision=2), "rank": 6},
)


def drifts(engine: Engine, make_spec: SpecMaker, directory: Path, baseline: Any, steps: int) -> tuple[float, float]:
    """Return how far packed trials drift from solo ones, and solo ones from themselves at another batch size."""
    quantization, dtype = engine.key[1:3]
    common = {"steps": 20, "eval_every_steps": 20, "dropout": 0.0, "quantization": quantization, "compute_dtype": dtype}
    halves = {**common, "batch_rows": 1, "accumulation_steps": 2}
    whole = {**common, "batch_rows": 2, "accumulation_steps": 1}
    curves: dict[str, dict[str, list[float]]] = {}
    for way, shape in (("halves", halves), ("whole", whole), ("packed", halves)):
        watched = Watched(engine, baseline, directory / way)
        specs = [make_spec(name=str(number), **one, **shape) for number, one in enumerate(KINDS)]
        (train_packed if way == "packed" else train_alone)(watched, specs, steps)
        curves[way] = watched.curves
    distance = lambda way: max(apart(curves[way][name], curve) for name, curve in curves["halves"].items())  # noqa: E731
    return distance("packed"), distance("whole")


@pytest.mark.slow
def test_nf4_in_float32_drifts_no_more_than_solo_at_another_batch_size(
    nf4_engine: Engine, make_spec: SpecMaker, baseline: Any, tmp_path: Path
) -> None:
    packed_drift, solo_drift = drifts(nf4_engine, make_spec, tmp_path, baseline, steps=5)
    assert 0 < solo_drift < 1e-4
    assert packed_drift <= 2 * solo_drift


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["none", "nf4-double"])
def test_bfloat16_in_a_cohort_is_as_close_to_float32_as_alone(
    quantization: str, make_spec: SpecMaker, baseline: Any, tmp_path: Path
) -> None:
    """Not measured against another batch size: on a CPU with AMX trials alone hardly notice that one."""
    curves: dict[str, dict[str, list[float]]] = {}
    for way, dtype in (("exact", "float32"), ("alone", "bfloat16"), ("packed", "bfloat16")):
        common = {"steps": 20, "eval_every_steps": 20, "dropout": 0.0, "quantization": quantization,
                  "compute_dtype": dtype, "batch_rows": 1, "accumulation_steps": 2}  # fmt: skip
        engine = Engine.load(make_spec(quantization=quantization, compute_dtype=dtype), torch.device("cpu"))
        watched = Watched(engine, baseline, tmp_path / way)
        specs = [make_spec(name=str(number), **one, **common) for number, one in enumerate(KINDS)]
        (train_packed if way == "packed" else train_alone)(watched, specs, 20)
        curves[way] = watched.curves
    packed, alone = (
        max(apart(curves[way][name], exact) for name, exact in curves["exact"].items()) for way in ("packed", "alone")
    )
    assert 0 < packed <= 2 * alone
