"""Which copies a record can give, and how one is saved as a plain PEFT adapter; imports no torch.

A scaled copy lies on the line in weight space between the base and the adapter, as in WiSE-FT (Wortsman et al. 2022,
"Robust fine-tuning of zero-shot models", CVPR). The average is the mean of the weight changes of the last evals, as in
model soups (Wortsman et al. 2022, ICML) and stochastic weight averaging (Izmailov et al. 2018), cut to the rank.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.derived.average import averaged, foreign_tensors, read_arrays
from trainables.errors import UserError, items, named
from trainables.io.files import read_json, write_json
from trainables.measurement import AVERAGE, FULL_STRENGTH
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from trainables.record import ADAPTERS, Record

DEFAULT_SCALES = ("0.25", "0.5", "0.75")
AVERAGED_EVALS = 3
KEEP_HINT = "run the trial in a new experiment with --keep all, which keeps the adapter of every eval"
DAMAGED_HINT = "restore it from a copy, or run the trial in a new experiment"


@dataclass(frozen=True)
class AdapterCopy:
    """An adapter of a record to evaluate or to save: that of the eval at `step`, at a scale or averaged.

    `scale` is as in `Measurement`; the `step` of an average is that of the last eval.
    """

    record: Record
    step: int
    scale: str

    def __str__(self) -> str:
        scale = "" if self.scale == FULL_STRENGTH else AVERAGE if self.scale == AVERAGE else f"x {self.scale}"
        return f"{self.record.name} @ {self.step} {scale}".rstrip()


def checked_scale(text: str) -> str:
    """Return a scale in its shortest form.

    Raises:
        UserError: it is not a number between 0 and 1.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:  # also refuses NaN
        raise UserError(
            f"a scale must be a number above 0 and below 1, but got `{named(text)}`",
            "0 is the base alone and 1 the adapter itself; for example 0.5",
        )
    return f"{value:g}"


def parse_scales(text: str) -> tuple[str, ...]:
    """Read scales separated by commas; without any, the default ones.

    Raises:
        UserError: one is not a number between 0 and 1.
    """
    return tuple(dict.fromkeys(map(checked_scale, items(text, "--scales", "0.25,0.5,0.75")))) or DEFAULT_SCALES


def copies_of(record: Record, scales: Sequence[str]) -> list[AdapterCopy]:
    """Return the derived copies of a record: each kept adapter at each scale, and the average of its last evals."""
    steps = [step for step in trained_steps(record) if record.adapter_at(step) is not None]
    scaled = [AdapterCopy(record, step, scale) for step in steps for scale in scales]
    last = trained_steps(record)[-AVERAGED_EVALS:]
    is_averaged = len(last) == AVERAGED_EVALS and set(last) <= set(steps)
    return [*scaled, *([AdapterCopy(record, last[-1], AVERAGE)] if is_averaged else [])]


def trained_steps(record: Record) -> list[int]:
    """Return the steps of the evals after training began, in order."""
    return [one.step for one in record.evals() if one.step > 0]


def save_derived(record: Record, step: int, scale: str, directory: Path) -> float:
    """Save the adapter of an eval, scaled or averaged, as PEFT loads it; `directory` may exist.

    A scaled copy has the same tensors and a `lora_alpha` times the scale. Returns the relative error of the cut to the
    rank, which is 0 unless the copy is an average.

    Raises:
        UserError: the record does not keep the adapters that are needed, or `scale` is none.
    """
    if scale != AVERAGE:
        strength = 1.0 if scale == FULL_STRENGTH else float(checked_scale(scale))
        kept, error = kept_adapters(record, step, scale)[0], 0.0
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept / ADAPTER_WEIGHTS, directory / ADAPTER_WEIGHTS)
    else:
        kept, error = _save_average(record, step, directory)
        strength = 1.0
    config = read_json(kept / ADAPTER_CONFIG)
    write_json(directory / ADAPTER_CONFIG, {**config, "lora_alpha": config["lora_alpha"] * strength})
    return error


def _save_average(record: Record, step: int, directory: Path) -> tuple[Path, float]:
    from safetensors.numpy import save_file

    kept = kept_adapters(record, step, AVERAGE)
    adapters = [read_arrays(one / ADAPTER_WEIGHTS) for one in kept]
    if foreign := foreign_tensors([*adapters[0]]):
        raise UserError(f"{kept[0]}: only LoRA factors can be averaged, but it holds {named(foreign[0])}")
    found = averaged(adapters)
    directory.mkdir(parents=True, exist_ok=True)
    save_file(found.tensors, directory / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    return kept[-1], found.relative_error


def kept_adapters(record: Record, step: int, scale: str) -> list[Path]:
    """Return the kept adapters from which a copy is made: that of the eval, or those of the last evals.

    Raises:
        UserError: one is not kept, or its files were changed, or no average ends at `step`.
    """
    if scale != AVERAGE:
        return [_kept(record, step)]
    steps = trained_steps(record)[-AVERAGED_EVALS:]
    if len(steps) < AVERAGED_EVALS or steps[-1] != step:
        raise UserError(
            f"{record.directory}: an average is that of the last {AVERAGED_EVALS} evals and named by the last, but the "
            f"last evals are at {', '.join(map(str, steps)) or 'no step'}, and step {step} was asked for",
            f"name step {steps[-1]}" if len(steps) == AVERAGED_EVALS else "train with more evals: --eval-every",
        )
    return [_kept(record, one) for one in steps]


def _kept(record: Record, step: int) -> Path:
    kept = record.adapter_at(step)
    if kept is not None:
        return kept
    saved = (record.directory / ADAPTERS / f"step-{step}", record.checkpoint(step))
    damaged = next((one for one in saved if one.exists()), None)
    if damaged is not None:
        raise UserError(f"{damaged}: every file must be as it was written, but one is not", DAMAGED_HINT)
    at = [str(one) for one in trained_steps(record) if record.adapter_at(one) is not None]
    raise UserError(
        f"{record.directory}: the adapter of step {step} must be kept, but it is not; "
        + (f"kept are those of step {', '.join(at)}" if at else "none is kept"),
        KEEP_HINT,
    )
