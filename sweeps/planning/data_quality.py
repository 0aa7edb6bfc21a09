"""Statistics of the scanned data, per file: lengths, repetitions, leaks. The checks in `data_checks` judge them.

Normalized text and the bytes of pictures are compared separately. Different pictures with the same answer are normal
in classification; the same picture in train and validation is a leak even if the questions differ.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainables.data.scan import Scan, ScannedRow

SHOWN_ROWS = 5  # of each finding, by id


@dataclass(frozen=True)
class Rows:
    """Rows that share a property: their count, the count of all rows, and the ids of the first `SHOWN_ROWS`."""

    count: int
    total: int
    first: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Return `count` as a fraction of `total`."""
        return self.count / self.total if self.total else 0.0


@dataclass(frozen=True)
class Lengths:
    """Lengths of rows in tokens, after the chat template, image tokens included."""

    shortest: int
    median: int
    longest_of_95_percent: int
    longest: int


@dataclass(frozen=True)
class FileQuality:
    """Statistics of one file; `histogram` counts rows by their tokens, rounded up to a power of two, `tokens` all.

    `repeated` rows equal an earlier row in text and pictures. `contradictory` rows have the question and the pictures
    of an earlier row but another answer. `same_text` rows have the text of an earlier row, with any pictures.
    """

    rows: int
    pictures: int
    lengths: Lengths
    histogram: dict[int, int]
    supervised_share: float
    image_share: float
    answers: int
    unencodable: Rows
    repeated: Rows
    contradictory: Rows
    same_text: Rows
    tokens: int


def file_quality(rows: Sequence[ScannedRow]) -> FileQuality:
    """Return the statistics of one file; lengths count only the rows that can be encoded."""
    encoded = [row for row in rows if row.problem is None]
    lengths = sorted(row.tokens for row in encoded) or [0]
    tokens = max(1, sum(lengths))
    return FileQuality(
        rows=len(rows),
        pictures=len({picture for row in rows for picture in row.pictures}),
        lengths=Lengths(lengths[0], _quantile(lengths, 0.5), _quantile(lengths, 0.95), lengths[-1]),
        histogram=dict(sorted(Counter(_power_of_two(row.tokens) for row in encoded).items())),
        supervised_share=sum(row.supervised_tokens for row in encoded) / tokens,
        image_share=sum(row.image_tokens for row in encoded) / tokens,
        answers=len({row.answer for row in rows}),
        unencodable=chosen(rows, [row.problem is not None for row in rows]),
        repeated=chosen(rows, _seen_before([(row.question, row.answer, row.pictures) for row in rows])),
        contradictory=chosen(rows, _contradicting(rows)),
        same_text=chosen(rows, _seen_before([(row.question, row.answer) for row in rows])),
        tokens=sum(lengths),
    )


def chosen(rows: Sequence[ScannedRow], keep: Sequence[bool]) -> Rows:
    """Return the rows for which `keep` is true."""
    names = [row.row_id for row, kept in zip(rows, keep, strict=True) if kept]
    return Rows(len(names), len(rows), tuple(names[:SHOWN_ROWS]))


def with_pictures_of(rows: Sequence[ScannedRow], train: Sequence[ScannedRow]) -> Rows:
    """Return the rows that have a picture in common with train."""
    seen = {picture for row in train for picture in row.pictures}
    return chosen(rows, [not seen.isdisjoint(row.pictures) for row in rows])


def with_questions_of(rows: Sequence[ScannedRow], train: Sequence[ScannedRow]) -> Rows:
    """Return the rows without a picture whose question is also in train, with any answer."""
    seen = {row.question for row in train if not row.pictures}
    return chosen(rows, [not row.pictures and row.question in seen for row in rows])


def longer_than(rows: Sequence[ScannedRow], max_tokens: int) -> Rows:
    """Return the rows with more than `max_tokens` tokens."""
    return chosen(rows, [row.tokens > max_tokens for row in rows])


def without_labels(rows: Sequence[ScannedRow]) -> Rows:
    """Return the conversations whose labels cover only the end of the turn, or every token.

    Plain-text rows are left out: their labels cover every token by design.
    """
    encodable = [row for row in rows if row.problem is None and not row.is_completion]
    return chosen(encodable, [not 1 < row.supervised_tokens < row.tokens - 1 for row in encodable])


def without_end(rows: Sequence[ScannedRow]) -> Rows:
    """Return the rows that can be encoded and whose labels hold no token that ends an answer."""
    encodable = [row for row in rows if row.problem is None]
    return chosen(encodable, [not row.learns_to_end for row in encodable])


def quality_of(scan: Scan) -> dict[str, FileQuality]:
    """Return the statistics of every file of a study, by name."""
    return {name: file_quality(rows) for name, rows in vars(scan).items() if rows or name != "replay"}


def quality_table(qualities: Mapping[str, FileQuality]) -> list[tuple[str, ...]]:
    """Return the quality report as rows of text, the header first."""
    header = ("data", "rows", "pictures", "tokens", "95 %", "labels", "image", "answers", "repeats", "at odds")
    return [
        header,
        *(
            (
                name,
                f"{one.rows:,}",
                f"{one.pictures:,}",
                f"{one.lengths.shortest}-{one.lengths.longest}",
                str(one.lengths.longest_of_95_percent),
                f"{one.supervised_share:.0%}",
                f"{one.image_share:.0%}",
                f"{one.answers:,}",
                f"{one.repeated.count:,}",
                f"{one.contradictory.count:,}",
            )
            for name, one in qualities.items()
        ),
    ]


def _seen_before(keys: Sequence[tuple[object, ...]]) -> list[bool]:
    seen: set[tuple[object, ...]] = set()
    found = []
    for key in keys:
        found.append(key in seen)
        seen.add(key)
    return found


def _contradicting(rows: Sequence[ScannedRow]) -> list[bool]:
    answers: defaultdict[tuple[object, ...], set[str]] = defaultdict(set)
    found = []
    for row in rows:
        known = answers[(row.question, row.pictures)]
        found.append(bool(known) and row.answer not in known and not row.is_completion)
        known.add(row.answer)
    return found


def _quantile(values: Sequence[int], fraction: float) -> int:
    # the nearest-rank quantile, which is the length of an actual row
    return values[max(0, -(-len(values) * round(fraction * 100) // 100) - 1)]


def _power_of_two(tokens: int) -> int:
    return 1 << max(0, tokens - 1).bit_length()
