"""Writes a directory to ship, and keeps it only if a fresh process measures the recorded numbers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.shipping.card import Shipment, model_card, strength
from analysis.shipping.chosen import ChosenAdapter
from trainables.derived.copies import save_derived
from trainables.errors import ExitCode, UserError
from trainables.io.checksums import sha256_of_files
from trainables.io.files import replace_directory, write_json, write_text
from trainables.measurement import AVERAGE, Measurement, read_measurements
from trainables.shipping.agreement import Agreement, compare
from trainables.shipping.job import ShippingJob
from trainables.shipping.package import check_scale, close_package, write_adapter, write_provenance
from trainables.source_check import check_sources

WORKER = "trainables.shipping.worker"
WEIGHTS = ("*.safetensors",)
RECORDED = "the eval of the same weights in the record"
PLACED = "the record's adapter at this strength, applied as in training (no eval of this strength is recorded)"
UNMERGED = "the adapter on the base as it is stored, for the merged weights are not quantized"

Measure = Callable[[ShippingJob], Measurement]


class NotShipped(UserError):
    """The directory does not do what the record says, or could not be loaded; nothing was left."""

    exit_code = ExitCode.CHECK_FAILED


@dataclass(frozen=True)
class ShippingOptions:
    """What is shipped: the strength of the adapter from 0 to 1, and whether it is merged into its base."""

    scale: float = 1.0
    merge: bool = False


def check_out(out: Path) -> None:
    """Refuse a directory that holds files.

    Raises:
        UserError: `out` exists and is not an empty directory.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out must be a new or an empty directory, but {out} is not", "name another one")


def check_can_ship(choice: ChosenAdapter, options: ShippingOptions, out: Path) -> None:
    """Refuse what cannot succeed, before anything is loaded.

    Raises:
        UserError: `out` exists, the scale is not from 0 to 1, or base or rows are no longer the recorded ones.
    """
    check_scale(options.scale)
    check_out(out)
    check_sources([choice.spec])
    if options.merge:
        from trainables.shipping.merged import check_can_merge

        check_can_merge(choice.spec.base.path)


def ship(choice: ChosenAdapter, options: ShippingOptions, out: Path, measure: Measure | None = None) -> Shipment:
    """Write the directory, measure it in a fresh process, and move it to `out` if the numbers agree.

    Raises:
        UserError: see `check_can_ship`.
        NotShipped: the numbers differ by more than the tolerance, or the fresh process failed.
    """
    check_can_ship(choice, options, out)
    ask = measure or measured_in_fresh_process
    with _staged(out) as directory, TemporaryDirectory() as scratch:
        before, words, measured = _measured_twice(choice, options, directory, Path(scratch), ask)
        agreements = tuple(compare(before, measured))
        _require_agreement(agreements, out)
        scored = replace(
            before if words == RECORDED else measured, step=choice.measured.step, scale=choice.measured.scale
        )
        shipment = Shipment(
            choice, options.scale, strength(choice.measured, options.scale), options.merge, scored, words, agreements,
            _digests(directory),
        )  # fmt: skip
        write_provenance(choice.record, choice.spec, scored, options.scale, directory)
        write_text(directory / "README.md", model_card(shipment))
        close_package(directory, choice.spec, choice.record)
    return shipment


def _measured_twice(
    choice: ChosenAdapter, options: ShippingOptions, directory: Path, scratch: Path, ask: Measure
) -> tuple[Measurement, str, Measurement]:
    """Write the files to load; return what they must measure, where that is from, and what they do measure."""
    adapter, copy = scratch / "adapter" if options.merge else directory, scratch / "copy"
    adapter.mkdir(exist_ok=True)
    save_derived(choice.record, choice.measured.step, choice.measured.scale, copy)
    write_adapter(copy, choice.spec, options.scale, adapter)
    unmerged = ask(_job(choice, adapter, scratch, unquantized=True, merge_into=directory)) if options.merge else None
    measured = ask(_job(choice, directory, scratch, form="merged" if options.merge else "adapter"))
    if unmerged is not None and choice.spec.quantization != "none":
        return unmerged, UNMERGED, measured
    if (recorded := _recorded(choice, options)) is not None:
        return recorded, RECORDED, measured
    return ask(_job(choice, copy, scratch, form="placed", scale=options.scale)), PLACED, measured


def measured_in_fresh_process(job: ShippingJob) -> Measurement:
    """Load and evaluate in another process, whose messages go to stderr.

    Raises:
        NotShipped: the process failed; its own message is above this one.
    """
    file = job.result.with_name("job.json")
    write_json(file, job.model_dump(mode="json"))
    done = subprocess.run([sys.executable, "-P", "-m", WORKER, str(file)], stdout=sys.stderr, check=False)  # noqa: S603
    if done.returncode != 0:
        raise NotShipped(f"a fresh process must load what is shipped, but it ended with code {done.returncode}",
                         "its own message is above; nothing was written to --out")  # fmt: skip
    return read_measurements(job.result, "run the command again")[-1]


def _job(choice: ChosenAdapter, directory: Path, scratch: Path, **changes: object) -> ShippingJob:
    values = {"record": choice.record.home.resolve(), "directory": directory, "form": "adapter"}
    return ShippingJob.model_validate({**values, "result": scratch / "measured.jsonl", **changes})


def _recorded(choice: ChosenAdapter, options: ShippingOptions) -> Measurement | None:
    """Return the eval of the same strength, None if there is none."""
    if options.scale == 1:
        return choice.measured
    if choice.measured.scale == AVERAGE:
        return None
    scale = f"{float(choice.measured.scale) * options.scale:g}"
    return next((one for one in choice.evals if one.scale == scale), None)


def _require_agreement(agreements: Sequence[Agreement], out: Path) -> None:
    broken = [str(one) for one in agreements if not one.holds]
    if broken:
        raise NotShipped(f"{out}: what is loaded must measure as recorded, but {'; '.join(broken)}",
                         "base, rows and versions must be those of the training; nothing was written")  # fmt: skip


def _digests(directory: Path) -> tuple[tuple[str, str], ...]:
    files = sorted(path for pattern in WEIGHTS for path in directory.rglob(pattern))
    names = [path.relative_to(directory).as_posix() for path in files]
    return tuple(zip(names, sha256_of_files(files), strict=True))


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """Yield a directory beside `out` that becomes `out` at the end, and is deleted after any failure."""
    staged = out.with_name(f".{out.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        staged.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out must be a directory that can be written, but: {error}", "name another one") from None
    try:
        yield staged
        replace_directory(staged, out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
