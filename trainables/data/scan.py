"""Encodes every row of a study's files as training does, to find problems before training starts.

It runs in a separate process, because the tokenizer needs torch, which planning must not import::

    echo '{"base": …, "train": …, "validation": …, "ood": …}' | python -m trainables.data.scan   # one JSON object
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from trainables.data.duplicates import digest_of, fingerprint
from trainables.data.ood import OodRow, needed_kinds, read_ood
from trainables.data.rows import Message, Row, read_rows, read_validation
from trainables.errors import UserError
from trainables.io.requests import read_request
from trainables.model.stored_base import read_base
from trainables.preloaded.process import started
from trainables.typed import typed

if TYPE_CHECKING:
    from PIL import Image

    from trainables.data.encoding import Encoded, Encoder


CHECKED_SIZES = 32  # picture sizes that run through the whole image processor; others only use its formula
MODULE = "trainables.data.scan"


@dataclass(frozen=True)
class ScannedRow:
    """One encoded row: lengths in tokens, contents as hashes of normalized text and of image bytes.

    `question` is the hash of the turns before the last answer, `answer` the hash of the answer. `problem` is the reason
    why the row cannot be encoded; its lengths are then 0. Out-of-distribution rows have no supervised tokens.
    `learns_to_end` is False if a row has labels, but none of them is a token that ends an answer.
    """

    row_id: str
    question: str
    answer: str
    pictures: tuple[str, ...] = ()
    tokens: int = 0
    supervised_tokens: int = 0
    image_tokens: int = 0
    problem: str | None = None
    is_completion: bool = False
    learns_to_end: bool = True


@dataclass(frozen=True)
class Scan:
    """All rows of a study's files, in file order; `replay` are those of all mixes."""

    train: tuple[ScannedRow, ...]
    validation: tuple[ScannedRow, ...]
    ood: tuple[ScannedRow, ...]
    replay: tuple[ScannedRow, ...] = ()


@dataclass(frozen=True)
class ScanFailure:
    """Why the files could not be scanned: the message and hint of a UserError."""

    error: str
    hint: str | None


def scan(
    base: Path, train: Path, validation: Path, ood: Path, template_date: date | None = None,
    replays: Sequence[Path] = (),
) -> Scan:  # fmt: skip
    """Scan the files of a study in a separate process; `template_date` is the date that the chat template shows.

    Raises:
        UserError: a file is broken, or the base's tokenizer or image processor cannot be loaded.
    """
    command = [sys.executable, "-m", MODULE]
    shown = template_date.isoformat() if template_date else None
    files = {"base": str(base), "train": str(train), "validation": str(validation), "ood": str(ood)}
    request = json.dumps({**files, "template_date": shown, "replays": [str(one) for one in replays]})
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        process = started(MODULE, log)
        assert process.stdin and process.stdout
        with suppress(BrokenPipeError), process.stdin as asked:  # it ended before it read; the log has the reason
            asked.write(f"{request}\n")
        with process.stdout as answer:
            printed = answer.read()
        code = process.wait()
        log.seek(0)
        errors = log.read()
    try:
        found = scan_result(printed)
    except ValidationError:
        reason = (errors.strip() or f"exit code {code}").splitlines()[-1]
        raise UserError(
            f"the rows must be readable by the tokenizer of {base}, but their scan ended with: {reason}",
            f"see the whole output: echo {shlex.quote(request)} | {shlex.join(command)}",
        ) from None
    if isinstance(found, ScanFailure):
        raise UserError(found.error, found.hint)
    return found


def scan_result(text: str | bytes) -> Scan | ScanFailure:
    """Read a scan, or why there is none, from the JSON that the scanning process prints.

    Raises:
        ValidationError: the text is neither result.
    """
    return _result_type().validate_json(text)


def _result_type() -> TypeAdapter[Scan | ScanFailure]:
    return TypeAdapter(Scan | ScanFailure)


def scan_here(
    base: Path, train: Path, validation: Path, ood: Path, template_date: date | None = None,
    replays: Sequence[Path] = (),
) -> Scan:  # fmt: skip
    """Scan the files of a study in this process, which imports torch.

    Raises:
        UserError: as `scan`.
    """
    from trainables.model.base import check_vocabulary
    from trainables.model.loading import read_configuration

    stored = read_base(base)
    read_configuration(base)
    kinds = needed_kinds(stored.family.sees)
    train_rows, validation_rows, ood_rows = read_rows(train), read_validation(validation), read_ood(ood, kinds)
    encoder = load_encoder(base, template_date)
    check_vocabulary(encoder.tokenizer, stored)
    return Scan(
        train=tuple(scanned_row(row, encoder) for row in train_rows),
        validation=tuple(scanned_row(row, encoder) for row in validation_rows),
        ood=tuple(scanned_question(row, encoder) for row in ood_rows),
        replay=tuple(scanned_row(row, encoder) for path in replays for row in read_rows(path)),
    )


def load_encoder(base: Path, template_date: date | None = None) -> Encoder:
    """Load the encoder of a base without its weights: the tokenizer and the sizes of the image processor.

    Raises:
        UserError: the tokenizer or the image processor cannot be loaded.
    """
    import torch

    from trainables.data.encoding import Encoder
    from trainables.data.picture_inputs import WithoutPixels
    from trainables.model.base import Base, load_image_processor, load_tokenizer

    stored = read_base(base)
    family = stored.family
    files = "tokenizer and image processor" if family.sees else "tokenizer"
    try:
        tokenizer, processor = load_tokenizer(base), load_image_processor(base, family)
    except (OSError, ValueError) as error:
        raise UserError(
            f"a base must hold its {files}, but those of {base} cannot be loaded: {str(error).strip().splitlines()[0]}",
            f"copy the files of the {files} from the source of the weights",
        ) from None
    # without its files transformers creates an empty tokenizer
    known = family.image_token or tokenizer.eos_token
    if known not in tokenizer.get_vocab() or not tokenizer("a word", add_special_tokens=False)["input_ids"]:
        raise UserError(
            f"the tokenizer of a base must know words and `{known}`, but that of {base} does not; it has "
            f"{len(tokenizer):,} tokens",
            "copy tokenizer.json and tokenizer_config.json from the source of the weights",
        )
    sizes = None
    if family.sees:
        sizes = WithoutPixels(processor) if family.picture_text else PictureSizes(processor)
    towers = family.towers(stored.config)
    rows, cpu = stored.embedding_rows, torch.device("cpu")
    loaded = Base(
        base, None, tokenizer, sizes, family, towers, cpu, rows, "unquantized", megabytes=0.0, config=stored.config
    )  # no weights
    return Encoder(loaded, template_date)


class PictureSizes:
    """Replaces an image processor: computes how many tokens a picture takes, without its features.

    The first pictures of each size run through the processor itself: the numbers of features and of tokens must be
    equal, otherwise the model would fail during training.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.merge_size = processor.merge_size
        self.checked_sizes: set[tuple[int, int]] = set()

    def __call__(self, images: list[Image.Image], return_tensors: str) -> dict[str, Any]:
        """Return empty features and the grid (1, 1, patches) of one picture.

        Raises:
            UserError: the processor makes more or fewer patches for this size than its formula gives.
        """
        import torch

        [picture] = images
        width, height = picture.size
        expected = self.processor.get_number_of_image_patches(height, width, {})
        if picture.size not in self.checked_sizes and len(self.checked_sizes) < CHECKED_SIZES:
            features = self.processor(images=images, return_tensors=return_tensors)
            made, grid = len(features["pixel_values"]), int(features["image_grid_thw"].prod())
            if not made == grid == expected:
                raise UserError(
                    f"a picture must have as many features as tokens, but {width} x {height} pixels make {made} "
                    f"patches on a grid of {grid} where {expected} are expected",
                    "the image processor does not match the base; use the preprocessor_config.json released with it",
                )
            self.checked_sizes.add(picture.size)
        return {"pixel_values": torch.empty(0), "image_grid_thw": torch.tensor([[1, 1, expected]])}


def scanned_row(row: Row, encoder: Encoder) -> ScannedRow:
    """Encode a row of train or validation; return its lengths, or why it cannot be encoded."""
    contents = _contents(row.row_id, row.prompt, row.answer, row.images)
    measured = _measured(encoder, lambda: encoder.conversation(row))
    return ScannedRow(**contents, **measured, is_completion=row.is_completion)


def scanned_question(row: OodRow, encoder: Encoder) -> ScannedRow:
    """Encode the prompt of an out-of-distribution row; return its lengths, or why it cannot be encoded."""
    contents = _contents(row.row_id, row.messages, row.expect or "", row.images)
    answered = (*row.messages, Message("assistant", row.expect or ""))

    def encode() -> Encoded:
        encoder.conversations.check_texts(answered, f"row `{row.row_id}`")
        return encoder.prompt(row.messages, row.images)

    return ScannedRow(**contents, **_measured(encoder, encode))


def _contents(row_id: str, question: tuple[Message, ...], answer: str, images: tuple[Path, ...]) -> dict[str, Any]:
    return {
        "row_id": row_id,
        "question": fingerprint(Row(row_id, question, ())),
        "answer": fingerprint(Row(row_id, (Message("assistant", answer),), ())),
        "pictures": tuple(map(digest_of, images)),
    }


def _measured(encoder: Encoder, encode: Callable[[], Encoded]) -> dict[str, Any]:
    from jinja2 import TemplateError

    try:
        encoded = encode()
    except UserError as error:
        return {"problem": error.message}
    except (ValueError, TemplateError) as error:  # a template that refuses a turn, an image of extreme aspect ratio
        return {"problem": str(error).strip().splitlines()[0]}
    beyond = [token for token in encoded.tokens if token >= encoder.embedding_rows]
    if beyond:
        token = encoder.tokenizer.convert_ids_to_tokens(beyond[0])
        return {"problem": f"`{token}` is token {beyond[0]:,}, but the embedding has {encoder.embedding_rows:,} rows"}
    return {
        "tokens": len(encoded.tokens),
        "supervised_tokens": sum(label >= 0 for label in encoded.labels[1:]),
        "image_tokens": encoded.tokens.count(encoder.image_token_id),
        "learns_to_end": any(label in encoder.answer_ends for label in encoded.labels)
        or not any(label >= 0 for label in encoded.labels),
    }


def main() -> None:
    """Scan the files that the request names and print the result as JSON."""
    request = read_request(MODULE, f"`{typed('data', 'check', 'FILE')}`", sys.argv[1:], sys.stdin)
    try:
        shown, replays = request.pop("template_date", None), [Path(path) for path in request.pop("replays", ())]
        files = {name: Path(path) for name, path in request.items()}
        day = date.fromisoformat(shown) if shown else None
        found = asdict(scan_here(**files, template_date=day, replays=replays))
    except UserError as error:
        json.dump(asdict(ScanFailure(error.message, error.hint)), sys.stdout)
        raise SystemExit(error.exit_code) from None
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
