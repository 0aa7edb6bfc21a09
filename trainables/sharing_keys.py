"""What trials must have in common to share an engine, or a cohort, and their order within a cohort."""

from __future__ import annotations

from trainables.io.checksums import canonical_json
from trainables.placement import Placement, Tower
from trainables.spec import RESERVE_FORMAT, TrialSpec

MOST_LAYERS = 10**6  # more than any tower has


def engine_key(spec: TrialSpec) -> tuple[str, ...]:
    """Return the values that trials on one engine must have in common: base, quantization, dtype, data and date."""
    return (
        spec.base.sha256,
        spec.quantization,
        spec.compute_dtype,
        spec.train.sha256,
        spec.validation.sha256,
        spec.ood.sha256,
        str(spec.template_date or ""),
        "reserve" if spec.format >= RESERVE_FORMAT else "",
        str(spec.train_slice_rows),
        *(source.sha256 for source in spec.earlier),
        *(canonical_json(probe.identity()) for probe in spec.probes),
    )


def cohort_key(spec: TrialSpec) -> tuple[str | float, ...]:
    """Return the values that trials of a cohort must have in common: engine, row order, batch shape, evals, steps."""
    return (
        *engine_key(spec),
        spec.data_seed,
        spec.batch_rows,
        spec.accumulation_steps,
        spec.batch_warmup_ratio,
        spec.max_tokens,
        spec.packed_tokens,
        spec.eval_every_steps,
        spec.steps,
        spec.pilot_steps,
        spec.replay.sha256 if spec.replay else "",
        spec.replay_ratio,
    )


def cohort_order(spec: TrialSpec) -> tuple[int | str, ...]:
    """Return the sort key within a cohort: trials that can share many layers of a pass come next to each other.

    A trial whose layers are listed comes after all that adapt the last ones, since the towers are not known here.
    """
    placement = spec.placement
    return (_order(placement, "vision"), _order(placement, "language"), spec.trial_id)


def _order(placement: Placement, tower: Tower) -> int:
    listed = placement.listed(tower)
    return MOST_LAYERS - listed[0] if listed else placement.count(tower)
