"""Asks a saved checkpoint held-out prompts: base and adapter are loaded with plain PEFT, answers decoded greedily."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.checkpoints.base_lookup import chosen_base
from trainables.checkpoints.lineage import Origin, read_origin
from trainables.checkpoints.peft_reference import read_expected
from trainables.checkpoints.verification import check_is_adapter, differences, read_saved
from trainables.data.duplicates import digest_of
from trainables.data.images import unreadable
from trainables.data.rows import Row, read_validation
from trainables.errors import UserError, named
from trainables.evaluation.answers import Answer, judged
from trainables.model.families import family_of
from trainables.model.quantization import DEFAULT_FOUR_BIT, FOUR_BIT
from trainables.probes.shell.judge import PATTERNS, Pattern
from trainables.spec import ComputeDtype, Quantization

if TYPE_CHECKING:
    import torch

    from trainables.data.encoding import Encoder
    from trainables.model.base import Base


@dataclass(frozen=True)
class Checkpoint:
    """A checked adapter, and how its base is loaded; `sha256` is that of the adapter's weights."""

    directory: Path
    sha256: str
    base: Path
    quantization: Quantization
    compute_dtype: ComputeDtype
    trained: Origin | None


@dataclass(frozen=True)
class HeldOut:
    """The rows to ask, drawn from a file of `total` rows; `sha256` is that of the file and its pictures."""

    path: Path
    sha256: str
    total: int
    rows: tuple[Row, ...]

    def caution(self, trained: Origin | None) -> str | None:
        """Say what these rows cannot prove, where the trial of the adapter has used them."""
        if trained is not None and self.sha256 == trained.spec.train.sha256:
            return "the adapter was trained on these very rows: its answers show memory, not fit"
        if trained is not None and self.sha256 == trained.spec.validation.sha256:
            return "the adapter's best step was chosen on these very rows: its answers flatter it"
        return None


@dataclass(frozen=True)
class Validation:
    """What was asked of a checkpoint and what it answered; `seed` drew the rows."""

    checkpoint: Checkpoint
    held_out: HeldOut
    answers: tuple[Answer, ...]
    seed: int
    max_new_tokens: int
    command: str

    @property
    def jsonl(self) -> str:
        """Return one line for every answer."""
        return "".join(one.line for one in self.answers)


def checked(directory: Path, base: Path | None, load_in_4bit: bool | None) -> Checkpoint:
    """Find the base of an adapter and its quantization, and make sure that the adapter is whole.

    Raises:
        UserError: it is no adapter, its base is not there, or its tensors are not those of its configuration.
    """
    check_is_adapter(directory)
    trained = read_origin(directory)
    where = chosen_base(directory, base, trained)
    saved = read_saved(directory)
    differing = differences(saved, read_expected(directory, where))
    if differing or saved.not_finite:
        raise UserError(
            f"{directory}: an adapter must be whole and finite, but {differing or f'{saved.not_finite[0]} is not'}",
            f"`python -m trainables.verify {directory}` shows every check",
        )
    dtype: ComputeDtype = trained.spec.compute_dtype if trained else "auto"
    quantization = chosen_quantization(trained.spec.quantization if trained else None, load_in_4bit)
    return Checkpoint(directory, saved.digest, where, quantization, dtype, trained)


def chosen_quantization(trained: Quantization | None, load_in_4bit: bool | None) -> Quantization:
    """Choose how the base is loaded: as it was trained on where that is known, else in 4 bits; or as was asked."""
    if load_in_4bit is None:
        return trained or DEFAULT_FOUR_BIT
    if not load_in_4bit:
        return "none"
    return trained if trained in FOUR_BIT else DEFAULT_FOUR_BIT


def drawn(path: Path, sample_size: int, seed: int) -> HeldOut:
    """Read the held-out rows and draw from them: `random.Random(seed).sample`, in the file's order; 0 takes all.

    Raises:
        UserError: the file is empty, or a row is broken or asks nothing.
    """
    rows = read_validation(path)
    digest = digest_of(path, (image for row in rows for image in row.images))
    if 0 < sample_size < len(rows):
        places = sorted(random.Random(seed).sample(range(len(rows)), sample_size))
    else:
        places = list(range(len(rows)))
    return HeldOut(path, digest, len(rows), tuple(rows[place] for place in places))


def check_rows_fit(held_out: HeldOut, base: Path) -> None:
    """Make sure, without loading it, that a base can be asked these rows.

    Raises:
        UserError: its family is not known or sees no pictures and a row has one, or a file is no picture.
    """
    family = family_of(base)[0]
    for row in held_out.rows:
        where = f"{held_out.path}: row `{named(row.row_id)}`"
        if row.images and not family.sees:
            raise UserError(
                f"{where}: {base.name} takes text alone, so a row must have no pictures, but it has {len(row.images)}",
                "ask it rows of text, or name the base that sees by --base DIR",
            )
        for picture in row.images:
            reason = unreadable(picture)
            if reason is not None:
                raise UserError(f"{where}: the image {picture} must be readable, but {reason}",
                                f"`python -m trainables.data check {held_out.path}` lists every such row")  # fmt: skip


def check_device(allow_cpu: bool) -> None:
    """Refuse a machine without CUDA unless the CPU is allowed.

    Raises:
        UserError: there is no CUDA device.
    """
    import torch

    if not torch.cuda.is_available() and not allow_cpu:
        raise UserError("CUDA not available. Use --allow-cpu to attempt CPU inference.",
                        "on a CPU the miniature takes seconds, a base of billions of parameters hours")  # fmt: skip


class Speaker:
    """A base with an adapter that answers rows one at a time, as it would when serving them."""

    def __init__(self, base: Base, encoder: Encoder, model: Any, max_new_tokens: int) -> None:
        self.base, self.encoder, self.model, self.max_new_tokens = base, encoder, model, max_new_tokens

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: torch.device, max_new_tokens: int) -> Speaker:
        """Load the base as the project's evals do, and the adapter as PEFT does.

        Raises:
            UserError: the base is of a family that is not known.
        """
        from peft import PeftModel

        from trainables.data.encoding import Encoder
        from trainables.model.base import load_base

        base = load_base(checkpoint.base, checkpoint.quantization, checkpoint.compute_dtype, device)
        model = PeftModel.from_pretrained(base.model, str(checkpoint.directory))
        return cls(base, Encoder(base), model.eval(), max_new_tokens)

    def answers(self, rows: Sequence[Row], patterns: Sequence[Pattern] = PATTERNS) -> Iterator[Answer]:
        """Yield the answer to every row as soon as it is decoded."""
        from trainables.evaluation.decoding import decode_greedily

        for row in rows:
            began = time.perf_counter()
            prompt = self.encoder.prompt(row.prompt, row.images)
            (said,) = decode_greedily(self.model, self.encoder, self.base.device, [prompt], self.max_new_tokens)
            yield judged(row, said.text, said.ended, round(time.perf_counter() - began, 3), patterns)
