"""The summary that ends a launch: how the trials ended, the frontier, and the next command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sweeps.display.trial_rows import MARKS, listed
from sweeps.study import Study
from trainables.errors import holds_password
from trainables.io.files import FileDamaged
from trainables.measurement import newest_eval
from trainables.metrics import generality
from trainables.pareto import as_costs, non_dominated
from trainables.rates import choice_text, further_texts, read_choices
from trainables.record import RUN_AGAIN, Measurement, Record
from trainables.record_check import METRICS
from trainables.record_labels import labels_of
from trainables.typed import typed
from trainables.weak_probes import weak_probes_of


def summary(
    study: Study, records: list[Record], experiment: str, tracking_uri: str | None = None, pages: Sequence[str] = ()
) -> str:
    """Return the summary of a launch: how the trials ended, the frontier in words, and the next commands.

    `pages` are the commands and addresses that show the launch in MLflow.
    """
    kinds = Counter(verdict.kind for record in records if (verdict := record.verdict()))
    ended = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    lines = [
        "",
        f"{experiment}: {len(records)} trials, {ended}.",
        *_frontier(records),
        *_labels(records),
        *_falls(records),
        *_rates(records),
        *(f"Warning: {one}." for one in weak_probes_of(records)),
    ]
    lines += ["", "next:", *(f"    {line}" for line in (pareto_command(experiment, tracking_uri), *pages))]
    return "\n".join(lines)


def pareto_command(experiment: str, tracking_uri: str | None) -> str:
    """Return the command that concludes from an experiment, as it is typed; it holds no password."""
    secret = holds_password(tracking_uri)
    store = ["--tracking-uri", tracking_uri] if tracking_uri and not secret else []
    note = "  # with MLFLOW_TRACKING_URI set to the address of the store, whose password is not printed"
    return typed("pareto", "--experiment", experiment, *store) + note * secret


GENERALITY_NAMES = {"irrelevant_pass": "irrelevant-image pass", "text_retention": "text retention"}


class _Arm(NamedTuple):
    name: str
    best: Measurement
    fit: float
    baseline_fit: float
    loss_drop: float


def _frontier(records: list[Record]) -> list[str]:
    arms = _admissible(records)
    gained = [arm for arm in arms if arm.fit > arm.baseline_fit]
    if not arms:
        return ["No completed arm has an eval that meets the constraint: the frontier is empty."]
    if not gained and not any(one.metrics["exact_match"] for record in records for one in record.evals()):
        return [_by_loss(arms)]  # as `analysis pareto` then does
    if not gained:
        nearest = max(arms, key=lambda arm: arm.fit - arm.baseline_fit)
        return [
            f"No arm that meets the constraint beats the baseline: of {len(arms)} such trials {nearest.name} comes "
            f"closest, with {nearest.fit:.1%} exact answers (step {nearest.best.step}) against "
            f"{nearest.baseline_fit:.1%} of the baseline. Try longer training or a higher learning rate."
        ]
    kept = generality(gained[0].best.metrics)
    points = np.array([[arm.fit, arm.best.metrics[kept]] for arm in gained])
    on_frontier = non_dominated(as_costs(points, ("higher", "higher")))
    front = [arm for arm, keep in zip(gained, on_frontier, strict=True) if keep]
    described = "; ".join(
        f"{arm.name} answers {arm.fit:.0%} exactly and keeps {arm.best.metrics[kept]:.0%} "
        f"{GENERALITY_NAMES[kept]} (step {arm.best.step})"
        for arm in sorted(front, key=lambda arm: -arm.fit)
    )
    return [
        f"Frontier of task fit and generality ({len(gained)} of {len(arms)} trials that meet the constraint beat the "
        f"baseline): {described}."
    ]


def _by_loss(arms: list[_Arm]) -> str:
    best = max(arms, key=lambda arm: arm.loss_drop)
    at = f"{best.name} (step {best.best.step})"
    if best.loss_drop <= 0:
        return f"No answer is exact in any trial, and no eval loss is below the baseline's: {at} comes closest."
    return (f"No answer is exact in any trial, so the fit is the eval loss: it fell most in {at}, by "
            f"{best.loss_drop:.3f} nats a token.")  # fmt: skip


def _admissible(records: list[Record]) -> list[_Arm]:
    by_id = {record.spec().trial_id: record for record in records}
    arms = []
    for record in records:
        spec, verdict, best = record.spec(), record.verdict(), record.best()
        if verdict is not None and verdict.kind == "completed" and best is not None:
            baseline = _baseline_metrics(record, by_id.get(spec.baseline().trial_id))
            loss_drop = baseline["eval_loss"] - best.metrics["eval_loss"]
            arms.append(_Arm(spec.name, best, best.metrics["exact_match"], baseline["exact_match"], loss_drop))
    return arms


def _baseline_metrics(record: Record, baseline: Record | None) -> Mapping[str, float]:
    evals = baseline.evals() if baseline else []
    if not evals:
        raise FileDamaged(
            f"{record.directory}: its baseline must have been measured, but it has no record with an eval",
            "--resume measures a lost baseline again",
        )
    return evals[0].metrics


def _labels(records: list[Record]) -> list[str]:
    labels = {record.spec().name: labels_of(record) for record in records}
    criteria = Counter(one["criteria"] for one in labels.values() if "criteria" in one)
    counts = ", ".join(f"{criteria[most]} {most}" for most in ("optimal", "minimum", "none") if criteria[most])
    lines = [f"Success criteria met: {counts}."] if counts else []
    for label, (_, meaning) in MARKS.items():
        by_checks: dict[str, list[str]] = {}
        for name, one in labels.items():
            if label in one:
                by_checks.setdefault(one[label].replace(",", ", "), []).append(name)
        labelled = "; ".join(f"{listed(names)} ({checks})" for checks, names in by_checks.items())
        lines += [f"{meaning[0].upper()}{meaning[1:]}: {labelled}."] if labelled else []
    return lines


def _rates(records: list[Record]) -> list[str]:
    """Say which rates pilots chose, and what to try where the best rate may lie beyond those tried."""
    experiment = records[0].home.parent.parent
    return [*map(choice_text, read_choices(experiment).values()), *further_texts(experiment)]


def _falls(records: list[Record]) -> list[str]:
    """Say on which kinds of picture trials lost their answers at their last eval; the mean over kinds can hide it."""
    fallen: dict[tuple[str, str], list[str]] = {}
    for record in records:
        last = newest_eval(record.directory / METRICS, RUN_AGAIN)
        for one in last.falls if last else ():
            kept = f"{record.spec().name} {one.successes} of {one.rows} (baseline {one.baseline_successes})"
            fallen.setdefault((one.metric, one.group), []).append(kept)
    return [
        f"Warning: a kind of picture was lost, {metric} on `{group}`: {listed(trials)}."
        for (metric, group), trials in fallen.items()
    ]
