"""Compares the numbers of a shipped directory with those in the record, within a stated tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainables.probes.metric import RowResults
from trainables.record import Measurement

# Batches of another shape add in another order: float32 on one machine agrees to 1e-4 nats, bfloat16 to about 0.01.
MAX_LOSS_DIFFERENCE = 0.02  # nats per token
MAX_SHARE_OF_ROWS = 0.02
# it compares with the captions of the baseline, which a shipped directory does not hold
RELATIVE_TO_BASELINE = ("caption_sanity",)


@dataclass(frozen=True)
class Agreement:
    """One metric before and after; `limit` and `difference` are in nats per token, or in rows with another result."""

    metric: str
    before: float
    after: float
    difference: float
    limit: float
    unit: str

    @property
    def holds(self) -> bool:
        """True when the difference is within the limit."""
        return self.difference <= self.limit

    def __str__(self) -> str:
        numbers = f"{self.before:.4f} before, {self.after:.4f} now"
        return f"{self.metric}: {numbers}; {self.difference:.4g} {self.unit} differ, at most {self.limit:.4g} may"


def compare(before: Measurement, after: Measurement) -> list[Agreement]:
    """Compare the loss, and by row every metric that is a proportion; only rows in both count.

    Records of an earlier version have no results by row: then the rates are compared.
    """
    found = [_loss(before, after)]
    for name, now in after.rows.items():
        if now.weights or name in RELATIVE_TO_BASELINE or name not in before.metrics:
            continue
        rows = before.rows.get(name)
        differing = _differing(rows, now) if rows else abs(before.metrics[name] - now.mean) * len(now.values)
        common = len(rows.values.keys() & now.values.keys()) if rows else len(now.values)
        limit = max(1.0, MAX_SHARE_OF_ROWS * common)
        found.append(Agreement(name, before.metrics[name], now.mean, round(differing, 6), limit, "rows"))
    return found


def _loss(before: Measurement, after: Measurement) -> Agreement:
    one, other = before.metrics["eval_loss"], after.metrics["eval_loss"]
    return Agreement("eval_loss", one, other, abs(one - other), MAX_LOSS_DIFFERENCE, "nats per token")


def _differing(before: RowResults, after: RowResults) -> float:
    values: Mapping[str, float] = before.values
    return float(sum(value != after.values[row] for row, value in values.items() if row in after.values))
