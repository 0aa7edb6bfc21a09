"""What trials must share to be trained on one engine, and together; without torch, for planning asks as well."""

from __future__ import annotations

from trainables.spec import TrialSpec


def engine_key(spec: TrialSpec) -> tuple[str, ...]:
    """Return what two trials must share to be trained on one engine: base, quantization, dtype and data."""
    return (
        spec.base.sha256,
        spec.quantization,
        spec.compute_dtype,
        spec.train.sha256,
        spec.validation.sha256,
        spec.ood.sha256,
        *(source.sha256 for source in spec.earlier),
    )


def cohort_key(spec: TrialSpec) -> tuple[str | float, ...]:
    """Return what two trials must share to be trained together: one engine, data order, batch shape, evals, length."""
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
    )


def neighbourhood(spec: TrialSpec) -> tuple[int | str, ...]:
    """Return what trials that train together are ordered by, so that those who share most of a pass are neighbours."""
    return (spec.placement.vision, spec.placement.language, spec.trial_id)
