"""The engine: one base on one device, with the data that its trials share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch

from trainables.data.encoding import Batch, Encoded, Encoder, RowStream, collate
from trainables.data.mixing import mixed_order
from trainables.data.ood import needed_kinds, read_ood
from trainables.data.packing import pack
from trainables.data.rows import Row, read_rows, read_validation
from trainables.errors import UserError
from trainables.evaluation.evaluator import Evaluator, probe_data
from trainables.frozen.kept import KeptActivations
from trainables.frozen.store import Store
from trainables.memory_file import Fit
from trainables.model.base import Base, default_device, load_base
from trainables.model.residency import ResidencyChoice
from trainables.model.shared_weights import SharedWeights
from trainables.probes.crops import check_pictures
from trainables.sharing_keys import engine_key
from trainables.spec import RESERVE_FORMAT, TrialSpec
from trainables.suites.requested import live_probes


@dataclass(frozen=True)
class Engine:
    """A loaded base with its encoder, the training rows and the evaluator.

    `kept` keeps what the frozen layers compute for a row; without it every pass computes them again. `replays` are the
    replay rows of the mixes trained so far, by the digest of their file: trials of other mixes share the base. `fits`
    says how the steps of trials ran that had not fitted its memory, by shape (`training.memory_fit`).
    """

    key: tuple[str, ...]
    base: Base
    encoder: Encoder
    train: Sequence[Row]
    evaluator: Evaluator
    kept: KeptActivations | None = None
    replays: dict[str, Sequence[Row]] = field(default_factory=dict)
    fits: dict[tuple[object, ...], Fit] = field(default_factory=dict)

    @classmethod
    def load(
        cls, spec: TrialSpec, device: torch.device | None = None, *, all_rows: bool = False,
        resident: ResidencyChoice = "auto", store: Store | None = None, sharing: SharedWeights | None = None,
    ) -> Engine:  # fmt: skip
        """Load base and data of `spec` onto `device` (default: the first visible CUDA device, else the CPU).

        With `sharing`, the base has the weights of a file that other engines of this node use too.
        """
        device = device or default_device()
        base = load_base(spec.base.path, spec.quantization, spec.compute_dtype, device, resident, sharing)
        return cls.on(base, spec, all_rows=all_rows, store=store)

    @classmethod
    def on(cls, base: Base, spec: TrialSpec, *, all_rows: bool = False, store: Store | None = None) -> Engine:
        """Return an engine with a loaded base and the data of `spec`; with `all_rows`, evals ask the reserve too.

        Activations of frozen layers are kept in `store`, if it is given.
        """
        encoder, sees = Encoder(base, spec.template_date), base.family.sees
        train, validation = read_rows(spec.train.path), read_validation(spec.validation.path)
        ood = read_ood(spec.ood.path, needed_kinds(sees))
        check_pictures(validation, sees)
        has_reserve = spec.format >= RESERVE_FORMAT and not all_rows
        data = probe_data(train, validation, ood, spec.train_slice_rows, has_reserve)
        data = replace(data, earlier=tuple(tuple(read_rows(source.path)) for source in spec.earlier))
        kept = KeptActivations(base, encoder, store) if store else None
        evaluator = Evaluator(base, encoder, data)
        evaluator.live_probes = live_probes(spec.probes, evaluator)
        return cls(engine_key(spec), base, encoder, train, evaluator, kept)

    def encode(self, index: int, max_tokens: int, spec: TrialSpec | None = None) -> Encoded:
        """Encode one training row; with a spec, numbers after the last one are its replay rows.

        Raises:
            UserError: the row is longer than `max_tokens`; truncation could remove labels or image tokens.
        """
        task_rows = len(self.train)
        row = self.train[index] if index < task_rows or spec is None else self._replay(spec)[index - task_rows]
        encoded = self.encoder.conversation(row)
        if len(encoded.tokens) > max_tokens:
            raise UserError(
                f"row `{row.row_id}` must fit max_tokens = {max_tokens}, but it has {len(encoded.tokens)} tokens",
                "raise max_tokens or shorten the row; rows are never cut, since that can remove its answer or image",
            )
        return encoded

    def row_stream(self, spec: TrialSpec, step: int) -> RowStream:
        """Yield row numbers without end, in the order of the spec's data seed, starting at optimizer step `step`."""
        order = mixed_order(len(self.train), len(self._replay(spec)), spec.replay_ratio, spec.data_seed)
        return RowStream(itertools.islice(order, spec.rows_before(step), None))

    def batches(self, rows: RowStream, spec: TrialSpec, step: int) -> list[Batch]:
        """Take the rows of optimizer step `step` from `rows` and return one batch per accumulation step."""
        encoded = [self.encode(index, spec.max_tokens, spec) for index in itertools.islice(rows, spec.rows_at(step))]
        if self.kept is not None and self.kept.store.files is not None and step + 1 < spec.last_step:
            self._read_ahead(self.kept, rows.upcoming(spec.rows_at(step + 1)), spec)
        micro = [encoded[start : start + spec.batch_rows] for start in range(0, len(encoded), spec.batch_rows)]
        if spec.packed_tokens:
            return [pack(one, self.base, spec.packed_tokens) for one in micro]
        return [collate(one, self.encoder, self.base.device, pad_left=False) for one in micro]

    def _replay(self, spec: TrialSpec) -> Sequence[Row]:
        if spec.replay is None:
            return ()
        if spec.replay.sha256 not in self.replays:
            self.replays[spec.replay.sha256] = read_rows(spec.replay.path)
        return self.replays[spec.replay.sha256]

    def _read_ahead(self, kept: KeptActivations, indices: Sequence[int], spec: TrialSpec) -> None:
        with suppress(UserError):  # a row that cannot be encoded ends the trials at the step that needs it
            kept.read_ahead([self.encode(index, spec.max_tokens, spec) for index in indices])
