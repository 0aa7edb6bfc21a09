"""Forecasts what each trial takes: memory by part, FLOPs, seconds and money; and what its device should hold at once.

FLOPs are those of the linears: 2 per weight and position forward, and 2 backward where a gradient passes. Seconds
follow from the speed that runs on this machine had (`speed.py`), and are not known before one ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from sweeps.planning.data_quality import FileQuality
from sweeps.planning.eval_cost import NO_SUITES, SuiteTokens, eval_rows, passes_of
from sweeps.planning.forecast import Forecast
from sweeps.planning.kept_forecast import BYTES
from sweeps.planning.step_memory import ModelShape, PassMember, PassShape, adapter_bytes, graph_bytes
from sweeps.planning.weight_memory import weight_memory
from trainables.memory_file import WHOLE, Fit
from trainables.model.module_kinds import own_name
from trainables.model.quantization import QUANTIZATION_TABLE
from trainables.model.residency import DEFAULT_CHOICE, ResidencyChoice, WeightBytes, resolve
from trainables.model.stored_base import StoredBase, read_base
from trainables.spec import TrialSpec

GIGABYTE = 1e9
EVAL_TOKENS = 4096  # of a batch of prompts, whose keys and values are kept while answers are decoded
USABLE_SHARE = 0.9  # of a device's memory: the rest is the library's own and what lies in pieces


@dataclass(frozen=True)
class TrialMemory:
    """The bytes that a trial takes alone on its engine: weights, casts, adapter with AdamW, graph, decode cache."""

    weights: int
    casts: int
    adapter: int
    graph: int
    cache: int

    @property
    def peak(self) -> int:
        """Return the most that is held at a time: a graph or a cache, never both."""
        return self.weights + self.casts + self.adapter + max(self.graph, self.cache)


@dataclass(frozen=True)
class TrialResources:
    """The forecast of one trial; `flops` of all its steps and evals. `fit` is how a step should run on the device.

    `at_once` is how many trials of its launch an engine begins with, None where memory does not limit them.
    """

    trial: str
    trial_id: str
    memory: TrialMemory
    flops: float
    fit: Fit = WHOLE
    at_once: int | None = None
    fits: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return the forecast as plain values, as the experiment keeps it."""
        return {**asdict(self), "peak_bytes": self.memory.peak}


def resources(
    forecasts: Sequence[Forecast], data: Mapping[str, FileQuality], ood_rows: Sequence[tuple[str, int]], sees: bool,
    device_bytes: int | None = None, resident: ResidencyChoice = DEFAULT_CHOICE, suites: SuiteTokens = NO_SUITES,
) -> tuple[TrialResources, ...]:  # fmt: skip
    """Return the forecast of every trial that trains, on a device of so many bytes; None if that is not known.

    `resident` says how engines hold 4-bit weights; `suites` are the tokens of an eval for tasks of a suite.
    """
    found, bases = [], {}
    for one in forecasts:
        if one.spec.placement.is_baseline:
            continue
        if one.spec.base.path not in bases:
            bases[one.spec.base.path] = read_base(one.spec.base.path)
        base = bases[one.spec.base.path]
        flops = trial_flops(one, base, data, ood_rows, sees, suites)
        found.append(fitted(one, base, data["train"], flops, device_bytes, resident))
    return tuple(found)


def fitted(
    one: Forecast, base: StoredBase, train: FileQuality, flops: float, device_bytes: int | None,
    resident: ResidencyChoice = DEFAULT_CHOICE,
) -> TrialResources:  # fmt: skip
    """Return the forecast of a trial as it fits a device: fewer rows a pass, then activations computed twice."""
    fit, lines, room = WHOLE, one.spec.batch_rows, None if device_bytes is None else USABLE_SHARE * device_bytes
    is_dequantized = _is_dequantized(one.spec, base, device_bytes, resident)
    memory = trial_memory(one, base, train, fit, is_dequantized)
    while room is not None and memory.peak > room and (smaller := fit.smaller(lines)) is not None:
        fit = smaller
        memory = trial_memory(one, base, train, fit, is_dequantized)
    is_held = room is None or memory.peak <= room
    return TrialResources(one.spec.name, one.spec.trial_id, memory, flops, fit, fits=is_held)


def cohort_width(found: Sequence[TrialResources], device_bytes: float, drawn: int | None = None) -> int | None:
    """Return how many of these trials an engine may train at once on so many bytes, whichever they are.

    None if all of them fit. Trials on the same weights are a cohort at most; one whose steps begin smaller has passes
    of its own. Where a trial fits alone at best, that is 1. With `drawn`, so many are trained that may all be as large
    as the largest of these.
    """
    widths = []
    for weights in {(one.memory.weights, one.memory.casts) for one in found}:
        alike = [one for one in found if (one.memory.weights, one.memory.casts) == weights]
        sizes = sorted(map(_in_cohort, alike), reverse=True)
        sizes = sizes[:1] * drawn if drawn else sizes
        own_pass = max((_pass_bytes(one) for one in alike if one.fit.is_smaller), default=0)
        room = USABLE_SHARE * device_bytes - sum(weights) - own_pass
        fitting = sum(total <= room for total in accumulate(sizes))
        widths += [fitting] if fitting < len(sizes) else []
    return max(1, min(widths)) if widths else None


def _in_cohort(one: TrialResources) -> int:
    """Return the bytes that a trial takes in a shared pass."""
    return one.memory.adapter + (0 if one.fit.is_smaller else _pass_bytes(one))


def _pass_bytes(one: TrialResources) -> int:
    return max(one.memory.graph, one.memory.cache)


def _is_dequantized(
    spec: TrialSpec, base: StoredBase, device_bytes: int | None, resident: ResidencyChoice
) -> bool:  # fmt: skip
    """True when an engine holds 4-bit weights dequantized, as `residency.resolve` decides by the free memory."""
    if QUANTIZATION_TABLE[spec.quantization].bits != 4:
        return False
    own, whole = (
        weight_memory(base, spec.quantization, BYTES[spec.compute_dtype], one).linears for one in (False, True)
    )
    return resolve(resident, spec.quantization, WeightBytes(own, whole), device_bytes or 0) == "dequantized"


def trial_memory(
    one: Forecast, base: StoredBase, train: FileQuality, fit: Fit = WHOLE, is_dequantized: bool = False
) -> TrialMemory:
    """Return what a trial takes alone, when its batches are the longest rows of the file."""
    spec, value_bytes = one.spec, BYTES[one.spec.compute_dtype]
    weights = weight_memory(base, spec.quantization, value_bytes, is_dequantized)
    model = model_shape(base, value_bytes)
    members = [PassMember(frozenset(one.placement.module_names), spec.rank, spec.dropout > 0)]
    shape = pass_shape(spec, train, base, fit)
    text = base.config.get("text_config") or base.config
    keys = sum(linear.outputs for block in model.language for linear in block
               if own_name(linear.name) in ("k_proj", "v_proj"))  # fmt: skip
    cache = EVAL_TOKENS * (keys or 2 * len(model.language) * int(text["hidden_size"])) * value_bytes
    return TrialMemory(weights.total, weights.cast, adapter_bytes(model, members),
                       graph_bytes(model, members, shape, fit.checkpointing), cache)  # fmt: skip


def model_shape(base: StoredBase, value_bytes: int) -> ModelShape:
    """Return the shape of a base's model for the forecast of a pass."""
    towers = base.family.towers(base.config)
    norms = any(name.endswith(("q_norm.weight", "q_layernorm.weight")) for name in base.weights)
    return ModelShape(towers["language"], towers["vision"], base.embedding_rows, value_bytes, norms)


def pass_shape(spec: TrialSpec, train: FileQuality, base: StoredBase, fit: Fit = WHOLE) -> PassShape:
    """Return the largest pass of a trial's steps: all of its rows as long as the longest of the file."""
    rows = math.ceil(spec.batch_rows / fit.parts)
    longest = spec.packed_tokens or train.lengths.longest
    labels = max(1, round(train.supervised_share * longest))
    image = round(train.image_share * longest)
    patches = image * base.family.patches_per_token(base.config)
    return PassShape(rows, longest, rows * labels, labels, rows * patches, rows * image)


def trial_flops(
    one: Forecast, base: StoredBase, data: Mapping[str, FileQuality], ood_rows: Sequence[tuple[str, int]], sees: bool,
    suites: SuiteTokens = NO_SUITES,
) -> float:  # fmt: skip
    """Return the FLOPs of all steps and evals of a trial alone, which computes its frozen layers in every epoch."""
    spec, train = one.spec, data["train"]
    language, vision = (_tower_weights(base, tower) for tower in ("language", "vision"))
    tokens = train.tokens / max(1, train.rows - train.unencodable.count)
    joined = base.family.patches_per_token(base.config)
    patches = tokens * train.image_share * joined
    head = base.embedding_rows * base.family.towers(base.config)["language"][0][0].inputs
    forward = 2.0 * (sum(language) * tokens + sum(vision) * patches + head * train.supervised_share * tokens)
    low = 0 if spec.placement.vision and patches else len(language) - spec.placement.depth("language", len(language))
    low_vision = len(vision) - spec.placement.depth("vision", len(vision))
    backward = 2.0 * (sum(language[low:]) * tokens + sum(vision[low_vision:]) * patches
                      + head * train.supervised_share * tokens)  # fmt: skip
    asked = eval_rows(data, ood_rows, spec, sees, suites).computed(sum(passes_of(spec)) / 2)
    per_eval = 2.0 * asked * (sum(language) + sum(vision) * train.image_share * joined)
    return spec.rows_before(spec.last_step) * (forward + backward) + one.evals * per_eval


def _tower_weights(base: StoredBase, tower: Any) -> list[int]:
    blocks = base.family.towers(base.config)[tower]
    return [sum(linear.inputs * linear.outputs for linear in block) for block in blocks]


def money(seconds: float, price: float, devices: int = 1) -> float:
    """Return the price of so many seconds on each device, at a price per device and hour."""
    return seconds / 3600.0 * price * devices


def resources_text(
    found: Sequence[TrialResources], flops_per_second: float | None, price: float | None, engines: int = 1,
    trials: int | None = None, pilot_flops: float = 0.0,
) -> str:  # fmt: skip
    """Return the forecast in sentences: memory by part, FLOPs, and minutes and money where the speed is known.

    Args:
        trials: how many trials a search draws, `found` being those at the edges of its space; None if these are all.
        pilot_flops: what pilots take beside the trials.
    """
    if not found:
        return ""
    largest, least = (way(found, key=lambda one: one.memory.peak) for way in (max, min))
    memory = largest.memory
    parts = {"weights": memory.weights, "casts": memory.casts, "adapter, gradients and AdamW": memory.adapter,
             "activations and logits": memory.graph, "decode cache of an eval": memory.cache}  # fmt: skip
    listed = ", ".join(f"{name} {size / GIGABYTE:.3g}" for name, size in parts.items() if size)
    lines = [
        f"Memory of a trial alone, live tensors: {least.memory.peak / GIGABYTE:.3g} to "
        f"{memory.peak / GIGABYTE:.3g} GB; {largest.trial}: {listed} GB."
    ]
    if shrunk := [f"{one.trial}: {one.fit}" for one in found if one.fit.is_smaller and one.fits]:
        lines.append(f"To fit the device, these begin smaller: {', '.join(shrunk[:4])}{', ...' * (len(shrunk) > 4)}.")
    flops = pilot_flops + (trials * max(one.flops for one in found) if trials else sum(one.flops for one in found))
    who = f"{trials} trials, each like the largest at most," if trials else "All trials"
    lines.append(f"{who} take {flops:.3g} FLOPs{', pilots among them' * bool(pilot_flops)}, computed apart; a cohort "
                 "shares the layers below its adapters.")  # fmt: skip
    if flops_per_second is None:
        lines.append("Minutes and money are known after a first run on this machine, which measures its speed.")
        return "\n".join(lines)
    seconds = flops / flops_per_second / engines
    cost = "" if price is None else f", at {price:g} a device-hour {money(seconds, price, engines):.3g}"
    lines.append(f"At the speed of earlier runs here, {flops_per_second:.2g} FLOPs a second, that is "
                 f"{seconds / 60:.2g} minutes on {engines} engine{'s' * (engines != 1)}{cost}.")  # fmt: skip
    return "\n".join(lines)
