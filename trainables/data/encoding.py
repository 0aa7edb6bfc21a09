"""Encodes rows as tensors: chat template, image tokens, labels on assistant tokens only; and the order of the rows."""

from __future__ import annotations

import itertools
import math
import random
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data.conversation import Conversations
from trainables.data.images import Crop, read_picture
from trainables.data.picture_inputs import Pixels, joined, pixels_of
from trainables.data.picture_text import image_mismatch
from trainables.data.rows import Message, Row
from trainables.data.supervision import IGNORED
from trainables.errors import UserError
from trainables.model.base import Base

NO_TOKEN = -1  # image token id of a base without a vision tower
PIXEL_CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class View:
    """A picture, whole or cropped to (left, top, side) in fractions of its size."""

    path: Path
    crop: Crop | None = None


@dataclass(frozen=True)
class Encoded:
    """One conversation as tokens; `labels` equal `tokens` where supervised and -100 elsewhere.

    `lasting` is false for tokens that one trial wrote, which no other trial and hardly a later eval reads again: their
    frozen activations are not kept in files, and push out none that are read every epoch.
    """

    tokens: list[int]
    labels: list[int]
    views: tuple[View, ...]
    lasting: bool = True


class Encoder:
    """Encodes conversations for one base, with chat templates as of `template_date`; caches decoded pictures."""

    def __init__(self, base: Base, template_date: date | None = None) -> None:
        self.tokenizer, self.template_date = base.tokenizer, template_date
        self.base_name = base.path.name
        self.embedding_rows = base.embedding_rows
        self.image_processor = base.image_processor
        self.family = base.family
        self.config = base.config
        self.conversations = Conversations(base.tokenizer, base.family, base.path.name, template_date)
        self.image_token = base.family.image_token
        self.image_token_id = NO_TOKEN
        if base.family.sees:
            self.image_token_id = base.tokenizer.convert_tokens_to_ids(base.family.image_token)
        self._cache: dict[View, Pixels] = {}
        self._cached_bytes = 0
        self._measured: dict[View, tuple[int, str]] = {}
        self._texts: dict[str, str] = {}

    def conversation(self, row: Row) -> Encoded:
        """Encode a training row; only assistant tokens, up to their end-of-turn token, are supervised.

        Where the chat template marks the assistant's tokens (`{% generation %}`), those are supervised. In a completion
        every token is supervised, and the end-of-sequence token is added.

        Raises:
            UserError: the chat template, a text or a picture of the row cannot be used.
        """
        where = f"row `{row.row_id}`"
        self._check_sees(row.images, where)
        if row.is_completion:
            tokens = self._completed(row.answer)
            return self._with_images(tokens, list(tokens), (), where)
        views = tuple(View(path) for path in row.images)
        tokens, labels = self.conversations.supervised(row.messages, where, self._picture_texts(views))
        return self._with_images(tokens, labels, views, where)

    def prompt(
        self, messages: Sequence[Message], images: Sequence[Path], crop: Crop | None = None, thinks: bool = False
    ) -> Encoded:
        """Encode a prompt, up to the start of the answer; with `thinks` the answer begins with its thoughts.

        Raises:
            UserError: the chat template, a text or a picture cannot be used.
        """
        where = f"prompt `{messages[-1].text[:40]}`"
        self._check_sees(images, where)
        views = tuple(View(path, crop) for path in images)
        tokens = self.conversations.prompt(messages, thinks, where, self._picture_texts(views))
        return self._with_images(tokens, [IGNORED] * len(tokens), views, where)

    def pixels(self, view: View) -> Pixels:
        """Decode and process a picture, or take it from the cache."""
        if view in self._cache:
            return self._cache[view]
        options = self.family.picture_text.options if self.family.picture_text else {}
        picture = read_picture(view.path, view.crop)
        features = self.image_processor(images=[picture], return_tensors="pt", **options)
        pixels = pixels_of(features, self.family, self.config, self.image_processor)
        if self._cached_bytes + pixels.bytes <= PIXEL_CACHE_BYTES:
            self._cache[view] = pixels
            self._cached_bytes += pixels.bytes
        return pixels

    @property
    def answer_ends(self) -> tuple[int, ...]:
        """Return the tokens that end an answer: the end of sequence, and the end of turn of the chat template."""
        return self.conversations.answer_ends

    @property
    def unspoken(self) -> frozenset[int]:
        """Return the tokens that structure a conversation, which are no part of the text of an answer."""
        return self.conversations.unspoken

    def _completed(self, text: str) -> list[int]:
        # special tokens in the text are kept; start and end of sequence are added if missing
        begin, end = self.tokenizer.bos_token, self.tokenizer.eos_token
        tokens = self.tokenizer(text, add_special_tokens=not (begin and text.startswith(begin)))["input_ids"]
        ends = text.rstrip().endswith(end) or tokens[-1] == self.tokenizer.eos_token_id
        return tokens if ends else [*tokens, self.tokenizer.eos_token_id]

    def _check_sees(self, images: Sequence[Path], where: str) -> None:
        if images and self.image_token_id == NO_TOKEN:
            raise UserError(
                f"{where}: {self.base_name} has no vision tower, so a row must have no pictures, but it has "
                f"{len(images)}",
                "remove `images` from the row, or pass a --base with a vision tower",
            )

    def _with_images(self, tokens: list[int], labels: list[int], views: tuple[View, ...], where: str) -> Encoded:
        found, counted = tokens.count(self.image_token_id), [self.measured(view)[0] for view in views]
        if self.family.picture_text is not None:
            if found != sum(counted):
                raise image_mismatch(where, str(self.image_token), found, len(views))
            return Encoded(tokens, labels, views)
        if found != len(views):
            raise image_mismatch(where, str(self.image_token), found, len(views))
        counts = iter(counted)
        wide_tokens, wide_labels = [], []
        for token, label in zip(tokens, labels, strict=True):
            repeat = next(counts) if token == self.image_token_id else 1
            wide_tokens += [token] * repeat
            wide_labels += [label] * repeat
        return Encoded(wide_tokens, wide_labels, views)

    def _picture_texts(self, views: Sequence[View]) -> list[str]:
        return [self.measured(view)[1] for view in views] if self.family.picture_text else []

    def measured(self, view: View) -> tuple[int, str]:
        """Return the number of image tokens of a picture, and the text that stands for it, if it is more than those."""
        if view not in self._measured:
            pixels = self.pixels(view)
            self._measured[view] = (pixels.tokens, self._texts.setdefault(pixels.text, pixels.text))
        return self._measured[view]


@dataclass(frozen=True)
class PlacedRow:
    """A row at its place in a batch: its tokens begin at token `start` of line `line`."""

    row: Encoded
    line: int
    start: int


@dataclass(frozen=True)
class Batch:
    """Tensors of one forward pass: the model's `inputs`, and `labels` (lines, tokens).

    `rows` are the rows it was made of, in the order of their pictures; it is empty if they are not known. `host_labels`
    are the labels in the memory of the host, if `labels` are on a GPU: what is chosen by them does not wait for it.
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    rows: tuple[PlacedRow, ...] = ()
    host_labels: torch.Tensor | None = None

    @property
    def supervised_tokens(self) -> int:
        """Count the label tokens that contribute to the loss (the first token of a row has no predecessor)."""
        return int(self.is_supervised.sum())

    @property
    def is_supervised(self) -> NDArray[np.bool_]:
        """Return whether each token but the first of a line is a label (lines, tokens - 1), on the host."""
        labels = self.labels.cpu() if self.host_labels is None else self.host_labels
        return labels.numpy()[:, 1:] != IGNORED


def host_copy(labels: torch.Tensor, device: torch.device) -> torch.Tensor | None:
    """Return labels that are on the host as what a batch on `device` keeps of them there."""
    return None if device.type == "cpu" else labels


def until_end(tokens: list[int], ends: Collection[int]) -> list[int]:
    """Return the tokens before the first one in `ends`, all tokens if there is none."""
    return tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens))]


def collate(
    rows: Sequence[Encoded], encoder: Encoder, device: torch.device, pad_left: bool, least_tokens: int = 0
) -> Batch:
    """Pad rows to one length of at least `least_tokens`, to the right for training and to the left for generation."""
    longest = max(least_tokens, *(len(row.tokens) for row in rows))
    pad_id = encoder.tokenizer.pad_token_id

    def padded(values: list[int], filler: int) -> list[int]:
        fill = [filler] * (longest - len(values))
        return fill + values if pad_left else values + fill

    input_ids = torch.tensor([padded(row.tokens, pad_id) for row in rows])
    inputs = {
        "input_ids": input_ids,
        "attention_mask": torch.tensor([padded([1] * len(row.tokens), 0) for row in rows]),
    }
    if encoder.family.image_token_mask:
        inputs[encoder.family.image_token_mask] = (input_ids == encoder.image_token_id).int()
    pictures = [encoder.pixels(view) for row in rows for view in row.views]
    inputs |= joined(pictures, encoder.family)
    labels = torch.tensor([padded(row.labels, IGNORED) for row in rows])
    starts = [longest - len(row.tokens) if pad_left else 0 for row in rows]
    placed = tuple(PlacedRow(row, line, start) for line, (row, start) in enumerate(zip(rows, starts, strict=True)))
    return Batch(
        {name: tensor.to(device) for name, tensor in inputs.items()},
        labels.to(device),
        placed,
        host_copy(labels, device),
    )


def chunks(rows: Sequence[Encoded], max_tokens: int, longest_ratio: float = math.inf) -> Iterator[list[int]]:
    """Yield row numbers, sorted by length, so that no batch has more than `max_tokens` padded tokens.

    No row of a batch is more than `longest_ratio` times as long as its shortest row.
    """
    chunk: list[int] = []
    for index in sorted(range(len(rows)), key=lambda one: len(rows[one].tokens)):
        tokens = len(rows[index].tokens)
        if chunk and ((len(chunk) + 1) * tokens > max_tokens or tokens > longest_ratio * len(rows[chunk[0]].tokens)):
            yield chunk
            chunk = []
        chunk.append(index)
    yield chunk


def data_order(rows: int, data_seed: int | str) -> Iterator[int]:
    """Yield row numbers endlessly: every epoch is a permutation that depends only on the data seed and the epoch."""
    epoch = 0
    while True:
        order = list(range(rows))
        random.Random(f"{data_seed}-{epoch}").shuffle(order)
        yield from order
        epoch += 1


class RowStream(Iterator[int]):
    """Row numbers in the order of training, which can be looked at before they are taken."""

    def __init__(self, order: Iterator[int]) -> None:
        self._order, self._seen = order, deque[int]()

    def __next__(self) -> int:
        return self._seen.popleft() if self._seen else next(self._order)

    def upcoming(self, count: int) -> list[int]:
        """Return the next `count` row numbers without taking them."""
        self._seen.extend(itertools.islice(self._order, max(0, count - len(self._seen))))
        return list(itertools.islice(self._seen, count))
