"""Evaluates adapters and copies without training, as one cohort where the family has a shared forward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from trainables.cohort.evaluator import CohortEvaluator
from trainables.cohort.shared_forward import SharedForward
from trainables.derived.copies import AdapterCopy, save_derived
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.frozen.worth import pays
from trainables.health import eval_integrity
from trainables.health.checks import Finding, judge_metrics
from trainables.health.eval_integrity import Measured
from trainables.io.files import read_json
from trainables.measurement import AVERAGE, Measurement, eval_measurement
from trainables.model.lora import Adapter, place
from trainables.model.peft_files import ADAPTER_CONFIG
from trainables.model.placement import resolve
from trainables.probes.captions import captions
from trainables.probes.probe import Baseline
from trainables.sharing_keys import cohort_order
from trainables.spec import TrialSpec
from trainables.typed import typed

COPIES_AT_ONCE = 16
Depths = tuple[int, int]
CUT_ERROR = "rank_cut_error"


@dataclass(frozen=True)
class SavedCopy:
    """A copy as it was saved: its directory, the factor of B A that PEFT reads there, and the error of the cut."""

    copy: AdapterCopy
    directory: Path
    alpha: float
    cut_error: float


def measure_base(engine: Engine) -> tuple[Measurement, Baseline]:
    """Evaluate the base without an adapter on the rows of an engine.

    Raises:
        UserError: the eval is invalid.
    """
    measured = eval_integrity.measure(engine.evaluator, None, 0)
    finding = judge_metrics(0, measured.scores.metrics) or measured.finding
    if finding is not None:
        raise UserError(
            f"{engine.base.path}: the eval of the base must be valid, but {finding.evidence}",
            f"nothing of it was recorded: check this machine with `{typed('doctor')}`, then run it again",
        )
    scores = measured.scores
    shown = captions(engine.evaluator.data, measured.answers)
    known = Baseline(scores.metrics, shown, scores.counts, answers=measured.answers)
    return eval_measurement(0, scores), known


def measure_copies(
    engine: Engine, copies: Sequence[AdapterCopy], baselines: Mapping[str, Baseline], at_once: int = COPIES_AT_ONCE
) -> Iterator[tuple[AdapterCopy, Measurement | Finding]]:
    """Evaluate copies on the rows of an engine, and yield the eval of each, or why it is invalid.

    Copies that can share many layers of a pass are taken together, at most `at_once`; fewer if memory is short. Frozen
    activations are kept for groups that start at the cut of another one; each of the others reads a row once.

    Args:
        baselines: the results of the base on the same rows, by the id of the baseline trial.

    Raises:
        UserError: a record does not keep an adapter that is needed.
        torch.OutOfMemoryError: there is too little memory for one copy.
    """
    waiting = sorted(copies, key=lambda one: (cohort_order(one.record.spec()), one.step, one.scale))
    width = at_once if engine.base.family.shared_forward is not None else 1
    depths = [_depths(engine, one.record.spec()) for one in waiting]
    again = shared_cuts([depths[start : start + width] for start in range(0, len(depths), width)])
    while waiting:
        now = waiting[:width]
        kept = engine.kept if cut_of(_depths(engine, one.record.spec()) for one in now) in again else None
        try:
            with TemporaryDirectory() as scratch:
                saved = [_saved(one, Path(scratch) / str(number)) for number, one in enumerate(now)]
                found = _measured(
                    replace(engine, kept=kept), saved, [baselines[one.record.spec().baseline().trial_id] for one in now]
                )
        except torch.OutOfMemoryError:
            if len(now) == 1:
                raise
            width = len(now) // 2
            continue
        yield from ((one.copy, _result(one, measured)) for one, measured in zip(saved, found, strict=True))
        waiting = waiting[len(now) :]


def cut_of(depths: Iterable[Depths]) -> Depths:
    """Return where a pass of copies starts: the lowest that one of them adapts, in layers of each tower from above."""
    language, vision = zip(*depths, strict=True)
    return max(language), max(vision)


def shared_cuts(groups: Sequence[Sequence[Depths]]) -> frozenset[Depths]:
    """Return the cuts at which several groups start: each asks every row, so that these read its activations again."""
    counts = Counter(map(cut_of, groups))
    return frozenset(cut for cut, count in counts.items() if pays(count, None))


def _depths(engine: Engine, spec: TrialSpec) -> Depths:
    towers = engine.base.towers
    language, vision = (spec.placement.depth(tower, len(towers[tower])) for tower in ("language", "vision"))
    return language, vision


def _saved(copy: AdapterCopy, directory: Path) -> SavedCopy:
    error = save_derived(copy.record, copy.step, copy.scale, directory)
    return SavedCopy(copy, directory, float(read_json(directory / ADAPTER_CONFIG)["lora_alpha"]), error)


def _measured(engine: Engine, saved: Sequence[SavedCopy], baselines: Sequence[Baseline]) -> list[Measured]:
    if engine.base.family.shared_forward is None:
        return [_measured_alone(engine, one, known) for one, known in zip(saved, baselines, strict=True)]
    adapters = []
    for one in saved:
        adapters.append(_placed(engine, one))
        adapters[-1].remove()  # the shared passes apply its tensors
    shared = SharedForward(engine.base, adapters, kept=engine.kept)
    try:
        joint, step = CohortEvaluator(engine.evaluator, shared), saved[0].copy.step
        drafts = {number: (engine.evaluator.drafts_of_base(one),) for number, one in enumerate(baselines)}
        by_number = joint.measure(dict(enumerate(baselines)), step, drafts)
    finally:
        shared.remove()
    return [by_number[number] for number in range(len(saved))]


def _measured_alone(engine: Engine, saved: SavedCopy, baseline: Baseline) -> Measured:
    adapter = _placed(engine, saved)
    try:
        drafts = (engine.evaluator.drafts_of_base(baseline),)
        return eval_integrity.measure(engine.evaluator, baseline, saved.copy.step, drafts)
    finally:
        adapter.remove()


def _placed(engine: Engine, saved: SavedCopy) -> Adapter:
    spec = saved.copy.record.spec().model_copy(update={"alpha": saved.alpha})
    adapter = place(engine.base, spec, resolve(spec.placement, engine.base.towers, spec.target_modules))
    adapter.load(saved.directory)
    return adapter


def _result(saved: SavedCopy, measured: Measured) -> Measurement | Finding:
    copy, scores = saved.copy, measured.scores
    finding = judge_metrics(copy.step, scores.metrics) or measured.finding
    if finding is not None:
        return finding
    metrics = {**scores.metrics, **({CUT_ERROR: saved.cut_error} if copy.scale == AVERAGE else {})}
    return replace(eval_measurement(copy.step, scores), metrics=metrics, scale=copy.scale)
