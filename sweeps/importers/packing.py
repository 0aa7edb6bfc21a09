"""Compares steps of packed sequences, as the tools count them, with the trial's steps of rows."""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.importers.parsing import ParsedConfig
from sweeps.importers.settings import ImportedSettings
from sweeps.planning.data_quality import FileQuality
from sweeps.planning.finding import PreflightFinding
from trainables.spec import TrialSpec


@dataclass(frozen=True)
class PackedSteps:
    """The steps of a tool that packs: `sequences` a step of at most `sequence_tokens`, for `epochs` or for `steps`."""

    tool: str
    sequences: int
    sequence_tokens: int
    steps: int | None
    epochs: float


def packed_steps(parsed: ParsedConfig, imported: ImportedSettings) -> PackedSteps | None:
    """Return the tool's steps if it packs, else None."""
    if not parsed.value("packing"):
        return None
    values = imported.as_values()
    return PackedSteps(
        tool=parsed.tool.name,
        sequences=values["batch_rows"] * values["accumulation_steps"],
        sequence_tokens=parsed.value("packing_length") or values["max_tokens"],
        steps=parsed.value("max_steps") if (parsed.value("max_steps") or 0) > 0 else None,
        epochs=parsed.value("epochs"),
    )


def packing_finding(packed: PackedSteps, train: FileQuality, spec: TrialSpec) -> PreflightFinding:
    """Return a warning with the rows of a step and the number of steps, in the tool and of the trial `spec`."""
    mean = max(1.0, train.tokens / max(1, train.rows))
    rows = max(packed.sequences, round(packed.sequences * packed.sequence_tokens / mean))
    steps = packed.steps or max(1, round(packed.epochs * max(1, round(train.rows / rows))))
    return PreflightFinding(
        "warn",
        "packing",
        f"in {packed.tool} a packed sequence counts as one row: at {mean:.0f} tokens a row, a step of "
        f"{packed.sequences:,} sequences of {packed.sequence_tokens:,} tokens holds about {rounded(rows):,} rows "
        f"there, and {spec.effective_rows:,} here; there are about {rounded(steps):,} steps there, "
        f"and {spec.steps:,} here",
        f"for steps as there, write about {rounded(rows):,} rows a step (batch size x accumulation steps) and "
        f"max_steps: {steps} in the file",
    )


def rounded(count: int) -> int:
    """Round to two significant digits."""
    digits = max(0, len(str(count)) - 2)
    return round(count, -digits)
