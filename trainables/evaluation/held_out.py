"""Generates answers of a saved checkpoint to held-out prompts, with plain PEFT and greedy decoding."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.checkpoints.base_lookup import chosen_base
from trainables.checkpoints.directory import check_is_adapter
from trainables.checkpoints.lineage import Origin, read_origin
from trainables.checkpoints.verification import check_opens
from trainables.data.duplicates import digest_of
from trainables.data.images import picture_problem
from trainables.data.picture_places import check_places
from trainables.data.rows import Row, read_validation
from trainables.data_files import trained_on
from trainables.errors import UserError, named
from trainables.evaluation.answers import Answer, judged
from trainables.model.families import family_of
from trainables.model.quantization import DEFAULT_FOUR_BIT, FOUR_BIT
from trainables.model.stored_base import check_quantization, read_base
from trainables.probes.shell.judge import PATTERNS, Pattern
from trainables.spec import ComputeDtype, Quantization
from trainables.typed import typed

if TYPE_CHECKING:
    import torch

    from trainables.data.encoding import Encoder
    from trainables.model.base import Base


@dataclass(frozen=True)
class Checkpoint:
    """A verified adapter and how to load its base; `sha256` is the digest of the adapter weights."""

    directory: Path
    sha256: str
    base: Path
    quantization: Quantization
    compute_dtype: ComputeDtype
    trained: Origin | None

    @property
    def template_date(self) -> date | None:
        """Return the date that the chat template showed in training; None if it showed none, or is unknown."""
        return self.trained.spec.template_date if self.trained else None


@dataclass(frozen=True)
class HeldOut:
    """The sampled rows of a file with `total` rows; `sha256` is the digest of the file and its images."""

    path: Path
    sha256: str
    total: int
    rows: tuple[Row, ...]

    def caution(self, trained: Origin | None) -> str | None:
        """Return a warning if the trial that trained the adapter has used these rows, else None."""
        if trained is not None and self.sha256 in trained_on(trained.spec):
            return "the adapter was trained on this file, so its answers may be memorized"
        if trained is not None and self.sha256 == trained.spec.validation.sha256:
            return "the adapter's best step was chosen on this file, so its results are too optimistic"
        return None


@dataclass(frozen=True)
class Validation:
    """The inputs and answers of one validation of a checkpoint; `seed` is the one that sampled the rows."""

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


def verified_checkpoint(directory: Path, base: Path | None, load_in_4bit: bool | None) -> Checkpoint:
    """Find the base of an adapter and its quantization, and verify that the adapter is complete.

    Raises:
        UserError: the directory holds no adapter, its base is missing or damaged, or tensors and configuration do not
            match.
    """
    check_is_adapter(directory)
    trained = read_origin(directory)
    where = chosen_base(directory, base, trained)
    saved = check_opens(directory, where)
    dtype: ComputeDtype = trained.spec.compute_dtype if trained else "auto"
    stored = read_base(where)
    quantization = chosen_quantization(
        trained.spec.quantization if trained else None, load_in_4bit, stored.quantization
    )
    check_quantization(stored, quantization)
    return Checkpoint(directory, saved.digest, where, quantization, dtype, trained)


def chosen_quantization(
    trained: Quantization | None, load_in_4bit: bool | None, stored: Quantization = "none"
) -> Quantization:
    """Choose the quantization of the base: as requested, else as in training, else as it is stored, else 4-bit."""
    four_bit = trained if trained in FOUR_BIT else stored if stored in FOUR_BIT else DEFAULT_FOUR_BIT
    if load_in_4bit is None:
        return trained or (stored if stored != "none" else four_bit)
    return four_bit if load_in_4bit else "none"


def sampled_rows(path: Path, sample_size: int, seed: int) -> HeldOut:
    """Read the held-out rows and sample `sample_size` of them, in file order; 0 uses all.

    Raises:
        UserError: the file is empty, or a row is malformed or has no prompt.
    """
    rows = read_validation(path)
    digest = digest_of(path, (image for row in rows for image in row.images))
    if 0 < sample_size < len(rows):
        indices = sorted(random.Random(seed).sample(range(len(rows)), sample_size))
    else:
        indices = list(range(len(rows)))
    return HeldOut(path, digest, len(rows), tuple(rows[index] for index in indices))


def check_rows_fit(held_out: HeldOut, base: Path) -> None:
    """Check that a base can answer these rows, without loading its weights.

    Raises:
        UserError: its family is unknown, a row has an image but the family takes none, or an image is unreadable.
    """
    check_places(held_out.path, held_out.rows)
    family = family_of(base)[0]
    for row in held_out.rows:
        where = f"{held_out.path}: row `{named(row.row_id)}`"
        if row.images and not family.sees:
            raise UserError(
                f"{where}: {base.name} takes text alone, so a row must have no pictures, but it has {len(row.images)}",
                "use rows without images, or pass a base that takes images as --base DIR",
            )
        for image in row.images:
            problem = picture_problem(image)
            if problem is not None:
                raise UserError(f"{where}: the image {image} {problem}",
                                f"`{typed('data', 'check', str(held_out.path))}` lists every such row")  # fmt: skip


def check_device(allow_cpu: bool) -> None:
    """Refuse a machine without CUDA unless the CPU is allowed.

    Raises:
        UserError: there is no CUDA device.
    """
    import torch

    if not torch.cuda.is_available() and not allow_cpu:
        raise UserError("CUDA not available. Use --allow-cpu to attempt CPU inference.",
                        "on a CPU the miniature takes seconds, a base of billions of parameters hours")  # fmt: skip


class AdaptedModel:
    """A base with an adapter that answers rows one at a time, as in serving."""

    def __init__(self, base: Base, encoder: Encoder, model: Any, max_new_tokens: int) -> None:
        self.base, self.encoder, self.model, self.max_new_tokens = base, encoder, model, max_new_tokens

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: torch.device, max_new_tokens: int) -> AdaptedModel:
        """Load the base as evals during training do, and the adapter with PEFT.

        Raises:
            UserError: the family of the base is unknown.
        """
        from peft import PeftModel

        from trainables.data.encoding import Encoder
        from trainables.model.base import load_base

        base = load_base(checkpoint.base, checkpoint.quantization, checkpoint.compute_dtype, device)
        model = PeftModel.from_pretrained(base.model, str(checkpoint.directory))
        return cls(base, Encoder(base, checkpoint.template_date), model.eval(), max_new_tokens)

    def answers(self, rows: Sequence[Row], patterns: Sequence[Pattern] = PATTERNS) -> Iterator[Answer]:
        """Yield the answer to every row as soon as it is decoded."""
        from trainables.evaluation.decoding import decode_greedily

        for row in rows:
            began = time.perf_counter()
            prompt = self.encoder.prompt(row.prompt, row.images, thinks=row.thinks)
            (decoded,) = decode_greedily(self.model, self.encoder, self.base.device, [prompt], self.max_new_tokens)
            yield judged(row, decoded.text, decoded.ended, round(time.perf_counter() - began, 3), patterns)
