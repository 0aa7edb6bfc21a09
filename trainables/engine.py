"""The engine: holds one base on one device, with the rows its trials share, for as long as its process lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trainables.base import Base, default_device, load_base
from trainables.batches import Encoded, Encoder
from trainables.data import Row, read_ood, read_rows
from trainables.errors import UserError
from trainables.evaluate import Evaluator, probe_data
from trainables.spec import TrialSpec

TRAIN_SLICE_ROWS = 64


@dataclass(frozen=True)
class Engine:
    """A loaded base, its encoder, the training rows and the fixed evals of one study."""

    key: tuple[str, ...]
    base: Base
    encoder: Encoder
    train: Sequence[Row]
    evaluator: Evaluator

    @classmethod
    def load(cls, spec: TrialSpec, device: torch.device | None = None) -> Engine:
        """Load base and data of `spec` onto `device` (default: the CUDA device this process sees, else the CPU)."""
        base = load_base(spec.base.path, spec.quantization, spec.compute_dtype, device or default_device())
        encoder = Encoder(base)
        train, validation = read_rows(spec.train.path), read_rows(spec.validation.path)
        data = probe_data(train, validation, read_ood(spec.ood.path), TRAIN_SLICE_ROWS)
        return cls(engine_key(spec), base, encoder, train, Evaluator(base, encoder, data))

    def encode(self, index: int, max_tokens: int) -> Encoded:
        """Encode one training row.

        Raises:
            UserError: the row is longer than `max_tokens`; cutting it could cut labels or image tokens.
        """
        row = self.train[index]
        encoded = self.encoder.conversation(row)
        if len(encoded.tokens) > max_tokens:
            raise UserError(
                f"row `{row.row_id}` must fit max_tokens = {max_tokens}, but it has {len(encoded.tokens)} tokens",
                "raise max_tokens or shorten the row; rows are never cut, a cut row can lose its answer or its image",
            )
        return encoded


def engine_key(spec: TrialSpec) -> tuple[str, ...]:
    """Return what two trials must share to be trained on one engine: base, quantization, dtype and data."""
    return (
        spec.base.sha256,
        spec.quantization,
        spec.compute_dtype,
        spec.train.sha256,
        spec.validation.sha256,
        spec.ood.sha256,
    )
