"""What a fresh process is asked to do with a shipped directory, as a value that crosses in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from trainables.spec import Frozen

Form = Literal["adapter", "placed", "merged"]


class ShippingJob(Frozen):
    """Evaluate `directory` on the rows of a record's trial, and write one measurement to `result`.

    An adapter is loaded by PEFT onto the base, quantized as in training, or not at all with `unquantized`. With
    `merge_into` it is then merged, and the model written there. A placed adapter is applied at `scale` as trials apply
    theirs, without PEFT's loader: what the directory at that strength is compared with where no eval is recorded.
    """

    record: Path
    directory: Path
    form: Form
    result: Path
    unquantized: bool = False
    scale: float = 1.0
    merge_into: Path | None = None
