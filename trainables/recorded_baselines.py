"""The results of baselines, read from their records where they are needed.

A request to train names the records. Their results by row take 100 kB, which would cross Ray with each request, and
stay in the memory of the launch for each trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from trainables.probes.captions import captions_in
from trainables.probes.probe import Baseline
from trainables.probes.question import answers_in
from trainables.record import Record

KEPT_BASELINES = 8  # in the memory of a process; a launch has one for each quantization


@dataclass(frozen=True)
class RecordedBaselines(Mapping[str, Baseline]):
    """The baselines by trial id; `directories` are those of their records, which have ended."""

    directories: Mapping[str, str]

    def __getitem__(self, trial_id: str) -> Baseline:
        """Return the results of a baseline; they are read once in a process."""
        return _read(self.directories[trial_id])

    def __iter__(self) -> Iterator[str]:
        """Yield the trial ids."""
        return iter(self.directories)

    def __len__(self) -> int:
        """Return the number of baselines."""
        return len(self.directories)


def baseline_in(record: Record) -> Baseline:
    """Return the metrics, captions and results by row of a baseline that has completed."""
    measured, samples = record.evals()[0], record.samples(0)
    captions, answers = captions_in(samples), answers_in(samples)
    return Baseline(measured.metrics, captions, measured.counts, measured.rows, measured.reserve, answers)


@lru_cache(maxsize=KEPT_BASELINES)
def _read(directory: str) -> Baseline:
    return baseline_in(Record(Path(directory)))
