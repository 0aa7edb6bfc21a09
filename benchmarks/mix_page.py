"""The figures of mixes of trials, whether they meet the goals, and the page that shows them; nothing here measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOISE, OF_MODEL, NAMED = 0.03, 0.85, 1.2  # never slower than alone, share of the model's ratio, ratio of named mixes
INTRODUCTION = f"""# Cohorts of unlike depths

`python -m benchmarks.mixes`. A name says which last layers its trials adapt: `L2` two language layers, `V6` six vision
blocks, `L2V6` both. **over alone**: the seconds of a step of all trials alone, over those in a cohort, by the passes
that its calibration chose; each step in the fastest of its repetitions, which were interleaved. **model**: the same
ratio of FLOPs for these passes (`benchmarks/flops.py`). Goals: never slower than alone ({NOISE:.0%} are noise), at
least {OF_MODEL:.0%} of the model, and {NAMED:g} for L2 + L4 + all layers and for V2 + V6 + L2V6.
"""
HEADER = ("mix", "passes", "alone s", "cohort s", "over alone", "model", "of model", "misses")


@dataclass(frozen=True)
class Figure:
    """The seconds of a step of all members of a mix, alone and in a cohort, and the ratio of the FLOP model."""

    shape: str
    mix: str
    named: bool
    cut: str
    alone_seconds: float
    cohort_seconds: float
    model_ratio: float

    @property
    def ratio(self) -> float:
        """Return how many times faster the cohort is."""
        return self.alone_seconds / self.cohort_seconds

    @property
    def never_slower(self) -> bool:
        """Return whether the cohort is not slower than its trials alone, within noise."""
        return self.ratio >= 1.0 - NOISE

    @property
    def fails(self) -> list[str]:
        """Return the goals that are not met, in words."""
        missed = [] if self.never_slower else ["slower than alone"]
        missed += [] if self.ratio >= OF_MODEL * self.model_ratio else [f"below {OF_MODEL:.0%} of the model"]
        return missed + ([] if self.ratio >= NAMED or not self.named else [f"below {NAMED:g}"])

    @property
    def line(self) -> str:
        """Return one line for the terminal."""
        misses = f"  MISSES: {', '.join(self.fails)}" if self.fails else ""
        modelled = f"model {self.model_ratio:.2f}, passes {self.cut}"
        return f"{self.shape} {self.mix}: {self.ratio:.2f} over alone, {modelled}{misses}"

    @property
    def row(self) -> str:
        """Return one row of the table."""
        return _row(
            self.mix, self.cut, f"{self.alone_seconds:.3f}", f"{self.cohort_seconds:.3f}",
            f"{self.ratio:.2f}", f"{self.model_ratio:.2f}", f"{self.ratio / self.model_ratio:.0%}",
            ", ".join(self.fails) or "-",
        )  # fmt: skip


def page(results: Mapping[str, Any]) -> str:
    """Return the page: for each shape its machine, how many mixes meet the goals, and a table."""
    lines = [INTRODUCTION]
    for name, shape in results.items():
        figures, machine = [Figure(**one) for one in shape["mixes"]], shape["machine"]
        met, safe = (sum(one) for one in ((not f.fails for f in figures), (f.never_slower for f in figures)))
        versions = f"{machine['cpu']}, {machine['threads']} threads, {machine['versions']}"
        lines += [
            f"## {name}", "", f"{machine['date']}, {versions}, {shape['clock']} seconds.", "",
            f"{met} of {len(figures)} mixes meet all goals; {safe} are not slower than alone.", "",
            _row(*HEADER), _row(*["---"] * len(HEADER)), *(one.row for one in figures), "",
        ]  # fmt: skip
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
