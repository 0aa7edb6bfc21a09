"""Loads a shipped directory in a fresh process and evaluates it.

Internal: `footprint ship` starts it as `python -m trainables.shipping.worker JOB`, where JOB is a file with a
`ShippingJob`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.checkpoints.adapter_config import read_adapter_config
from trainables.command import quieten_libraries, run
from trainables.io.files import read_json, write_text
from trainables.record import Measurement, Record
from trainables.shipping.job import ShippingJob
from trainables.source_check import check_sources

if TYPE_CHECKING:
    from trainables.model.base import Base
    from trainables.spec import TrialSpec


def main(job: Annotated[Path, typer.Argument(help="File that `footprint ship` wrote.")]) -> None:
    """Evaluate a shipped directory. It is internal: another process starts it, that of `footprint ship`."""
    quieten_libraries()
    carry_out(ShippingJob.model_validate(read_json(job)))


def carry_out(job: ShippingJob) -> None:
    """Load, evaluate, and write the measurement; then merge, if asked to.

    Raises:
        UserError: base or rows are no longer those of the trial, or the directory cannot be loaded.
    """
    spec = Record(job.record).spec()
    check_sources([spec])
    if job.form == "merged":
        _write(job, _measured(_merged_base(job, spec), spec))
        return
    if job.form == "placed":
        _write(job, _measured(_placed(job, spec), spec))
        return
    from peft import PeftModel

    from trainables.shipping.merged import write_merged

    base = _base(job, spec)
    # PEFT puts the adapter's layers into `base.model` itself, which the evaluator asks
    model = PeftModel.from_pretrained(base.model, str(job.directory)).eval()
    _write(job, _measured(base, spec))
    if job.merge_into is not None:
        write_merged(model, spec.base.path, job.merge_into)


def _base(job: ShippingJob, spec: TrialSpec) -> Base:
    from trainables.model.base import default_device, load_base
    from trainables.shipping.merged import stored_dtype

    if job.unquantized:
        return load_base(spec.base.path, "none", stored_dtype(spec.base.path), default_device())
    return load_base(spec.base.path, spec.quantization, spec.compute_dtype, default_device())


def _placed(job: ShippingJob, spec: TrialSpec) -> Base:
    from trainables.model.lora import place
    from trainables.model.placement import resolve

    base = _base(job, spec)
    alpha = read_adapter_config(job.directory)["lora_alpha"] * job.scale
    adapter = place(
        base,
        spec.model_copy(update={"alpha": alpha}),
        resolve(spec.placement, base.towers, spec.target_modules),
    )
    adapter.load(job.directory)
    return base


def _merged_base(job: ShippingJob, spec: TrialSpec) -> Base:
    from trainables.model.base import default_device, load_base
    from trainables.shipping.merged import stored_dtype

    return load_base(job.directory, "none", stored_dtype(spec.base.path), default_device())


def _measured(base: Base, spec: TrialSpec) -> Measurement:
    from trainables.engine import Engine

    scores, _ = Engine.on(base, spec).evaluator.measure(None)
    return Measurement("eval", 0, scores.metrics, scores.counts, scores.rows)


def _write(job: ShippingJob, measured: Measurement) -> None:
    write_text(job.result, measured.line() + "\n")


if __name__ == "__main__":
    run(main)
