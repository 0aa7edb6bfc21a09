"""What to say of trials that no single device holds."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.planning.device_memory import GIGABYTE, Devices
from sweeps.planning.finding import PreflightFinding
from sweeps.planning.forecast import Forecast
from sweeps.planning.resources import USABLE_SHARE, TrialResources
from trainables.model.device_split import Split, split_of


def memory_findings(
    forecasts: Sequence[Forecast], found: Sequence[TrialResources], devices: Devices
) -> tuple[PreflightFinding, ...]:
    """Return what to say of trials that no device holds: refused where it is named, or the weights alone exceed it."""
    large = [one for one in found if not one.fits]
    if not large:
        return ()
    worst = max(large, key=lambda one: one.memory.peak)
    gigabytes = f"{devices.largest / GIGABYTE:.3g} GB"
    needs = (
        f"{worst.trial} takes {worst.memory.peak / GIGABYTE:.3g} GB, {worst.memory.weights / GIGABYTE:.3g} of weights"
    )
    message = f"a trial must fit one device, but the largest has {gigabytes} and {needs}, {worst.fit}"
    if worst.memory.weights <= USABLE_SHARE * devices.largest:
        level = "refuse" if devices.are_given else "warn"
        hint = "a coarser --quant, fewer layers, a lower --rank or max_tokens; or --memory with what the device has"
        return (PreflightFinding(level, "memory", message, hint, tuple(one.trial for one in large)),)
    hint = "use a coarser --quant, a smaller base or a larger device; --memory GB says what a device has"
    if len(devices.bytes_each) > 1:
        base = next(one.spec.base.path for one in forecasts if one.spec.trial_id == worst.trial_id)
        message += f"; {_split_text(split_of(base, worst.memory.weights, devices.bytes_each, USABLE_SHARE))}"
    return (PreflightFinding("refuse", "memory", message, hint, tuple(one.trial for one in large)),)


def _split_text(split: Split) -> str:
    each = ", ".join(f"{one / GIGABYTE:.3g}" for one in split.held)
    if split.left_over:
        return (f"split by layers the devices hold {each} GB of weights, and "
                f"{split.left_over / GIGABYTE:.3g} GB have no room")  # fmt: skip
    return (f"split by layers the devices would hold {each} GB of weights, but an engine holds its base on one "
            "device: engines on several were never run")  # fmt: skip
