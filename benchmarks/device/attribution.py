"""Where the time of a step goes: kernels by kind, launches, waits of the host, and what compiling the trunk saves."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.device.budget import Values
from benchmarks.device.throughput import LAYERS, random_base
from benchmarks.device.training import (
    Device,
    Member,
    backward,
    opened,
    random_batch,
    seconds_of,
    train_step,
    trial_spec,
)
from trainables.cohort.shared_forward import SharedForward
from trainables.cohort.stacked_lora import StackedLinear
from trainables.data.encoding import Batch, Encoder
from trainables.model.base import Base

# kinds of kernels by a part of their name, the first that matches; names are those of CUDA, cuBLAS and bitsandbytes
KINDS = (
    ("dequantization", ("dequant", "4bit")),
    ("attention", ("flash", "fmha", "attention", "sdp")),
    ("matrix products", ("gemm", "cutlass", "aten::mm", "addmm", "bmm", "nvjet", "xmma")),
    ("dropout masks", ("random", "distribution", "philox")),
    ("optimizer", ("adam", "foreach", "multi_tensor", "norm_l2", "vector_norm")),
    ("copies", ("memcpy", "memset", "copy_")),
)
# operations whose result the host reads, so that it waits for all queued work
WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select", "aten::_unique2")
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


@dataclass(frozen=True)
class Profile:
    """Seconds by kind of kernel, counts of launches and of operations that the host waits for."""

    seconds: dict[str, float]
    launches: int
    waits: dict[str, int]


def measure(device: Device) -> Iterator[Values]:
    """Yield a table for kinds of kernels, then waits, masks and the compiled trunk."""
    tokens, row_tokens, trials = (64, 32, 2) if device.is_small else (1024, 256, 4)
    with tempfile.TemporaryDirectory() as scratch:
        base = random_base(device, Path(scratch))
    encoder = Encoder(base)
    batch = random_batch(encoder, device.device, tokens // row_tokens, row_tokens)
    members = opened(base, [trial_spec(LAYERS, seed=number) for number in range(trials)])
    tables: list[Values] = []
    for table in (_kinds_table, _waits_table, _masks_table):
        shared = SharedForward(base, [one.adapter for one in members])
        try:
            train_step(shared, members, batch, 0)
            tables.append(table(device, shared, members, batch))
        finally:
            shared.remove()
        yield {"tables": tables}
    tables.append(_trunk_table(device, base, batch))
    yield {"tables": tables}


# ---------------------------------------------------------------- kernels
def profiled(device: Device, run: Callable[[], object]) -> Profile:
    """Run under torch's profiler; seconds are those of the device, on a CPU those of operations."""
    on_gpu = device.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as found:
        run()
        device.synchronize()
    seconds: dict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    for event in found.key_averages():
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        counts[event.key] += event.count
        if not on_gpu or not event.key.startswith(("aten::", "cuda", "cu")):  # operations repeat their kernels' time
            seconds[kind_of(event.key)] += own / 1e6
    return Profile(
        dict(seconds), sum(counts[name] for name in LAUNCHES), {name: counts[name] for name in WAITS if counts[name]}
    )


def kind_of(kernel: str) -> str:
    """Return the kind of a kernel or operation by its name."""
    lower = kernel.lower()
    return next((kind for kind, parts in KINDS if any(part in lower for part in parts)), "other")


def _kinds_table(device: Device, shared: SharedForward, members: Sequence[Member], batch: Batch) -> Values:
    found = profiled(device, lambda: train_step(shared, members, batch, 1))
    wall = statistics.median(seconds_of(device, lambda number: train_step(shared, members, batch, number), 3))
    hooks = hook_seconds(shared, lambda again: train_step(again, members, batch, 2))
    total = sum(found.seconds.values())
    rows = [[kind, 1e3 * own, f"{own / total:.0%}"] for kind, own in
            sorted(found.seconds.items(), key=lambda one: -one[1])]  # fmt: skip
    rows += [["all kernels", 1e3 * total, "100%"], ["a step, wall", 1e3 * wall, None],
             ["host time in hooks", 1e3 * hooks, None], ["kernel launches", found.launches, None]]  # fmt: skip
    return {
        "title": f"One step of {len(members)} trials, {batch.labels.numel()} tokens",
        "header": ["where", "ms, or count", "share"],
        "rows": rows,
    }


def hook_seconds(shared: SharedForward, run: Callable[[SharedForward], object]) -> float:
    """Return the host's seconds within the hooks that add LoRA, in a call of `run` with a new shared forward."""
    spent, original = 0.0, StackedLinear.add

    def timed(*given: Any) -> Any:
        nonlocal spent
        began = time.perf_counter()
        try:
            return original(*given)
        finally:
            spent += time.perf_counter() - began

    shared.remove()
    StackedLinear.add = timed  # type: ignore[method-assign]
    try:
        again = SharedForward(shared.base, shared.lora.adapters, shared.share)
        run(again)
        again.remove()
    finally:
        StackedLinear.add = original  # type: ignore[method-assign]
    return spent


# ---------------------------------------------------------------- waits
def _waits_table(device: Device, shared: SharedForward, members: Sequence[Member], batch: Batch) -> Values:
    shared.base.model.train()
    found = profiled(device, lambda: backward(shared, members, batch, 3))
    rows: list[list[Any]] = [[name, count, ""] for name, count in found.waits.items()]
    if device.device.type == "cuda":
        rows += [["synchronization", 1, place] for place in waits_of(lambda: backward(shared, members, batch, 4))]
    shared.base.model.eval()
    return {
        "title": "Operations that the host waits for, from the forward to the end of the backward (there must be none)",
        "header": ["operation", "count", "where"],
        "rows": rows or [["none", 0, ""]],
    }


def waits_of(run: Callable[[], object]) -> list[str]:
    """Return where the host waits for the CUDA device, by torch's own check."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [f"{Path(one.filename).name}:{one.lineno}" for one in seen if "synchroniz" in str(one.message)]


def _masks_table(device: Device, shared: SharedForward, members: Sequence[Member], batch: Batch) -> Values:
    made, original = 0, torch.Generator

    def counted(*given: Any) -> Any:
        nonlocal made
        made += 1
        return original(*given)

    torch.Generator = counted  # type: ignore[misc, assignment]
    try:
        shared.base.model.train()
        backward(shared, members, batch, 5)
        shared.base.model.eval()
    finally:
        torch.Generator = original  # type: ignore[misc]
    return {
        "title": "Dropout masks of one step",
        "header": ["figure", "value"],
        "rows": [["trials", len(members)], ["adapted linears", len(shared.lora.by_layer)],
                 ["random generators made", made]],
    }  # fmt: skip


# ---------------------------------------------------------------- the frozen trunk
def _trunk_table(device: Device, base: Base, batch: Batch) -> Values:
    """Time the layers below the adapters eagerly, compiled, and captured as a CUDA graph; nothing of this is used."""
    trunk = FrozenLayers(base, LAYERS)
    inputs = trunk.inputs(batch)
    rows: list[list[Any]] = []
    eager = _milliseconds(device, lambda: trunk(inputs))
    rows.append(["eager", eager, 1.0, ""])
    for name, make in (("torch.compile", _compiled), ("CUDA graph", _captured)):
        if name == "CUDA graph" and device.device.type != "cuda":
            rows.append([name, None, None, "needs a CUDA device"])
            continue
        try:
            own = _milliseconds(device, make(device, trunk, inputs))
            rows.append([name, own, eager / own, ""])
        except (RuntimeError, ImportError, OSError, AttributeError) as error:
            rows.append([name, None, None, f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"])
    return {
        "title": f"The frozen layers below the adapters, {batch.labels.numel()} tokens",
        "header": ["how", "ms", "over eager", "problem"],
        "rows": rows,
    }


class FrozenLayers:
    """Runs the language layers below the last `adapted` ones, without a gradient."""

    def __init__(self, base: Base, adapted: int) -> None:
        self.base = base
        self.layers = list(base.decoder.layers)[:-adapted]

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return hidden states and position embeddings of a batch without padding."""
        with torch.no_grad():
            hidden = self.base.decoder.embed_tokens(batch.inputs["input_ids"])
            places = torch.arange(hidden.shape[1], device=hidden.device)[None].expand(len(hidden), -1)
            return hidden, self.base.decoder.rotary_emb(hidden, places[None].expand(3, -1, -1))

    @torch.no_grad()
    def __call__(self, given: tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Return the hidden states above the trunk."""
        hidden, embedded = given
        for layer in self.layers:
            hidden = layer(hidden, position_embeddings=embedded, attention_mask=None)
        return hidden


def _milliseconds(device: Device, run: Callable[[], object]) -> float:
    return 1e3 * statistics.median(seconds_of(device, lambda _: run(), 1 if device.is_small else 5, warm_up=2))


def _compiled(device: Device, trunk: FrozenLayers, inputs: Any) -> Callable[[], object]:
    del device
    compiled = torch.compile(trunk.__call__, dynamic=False)
    return lambda: compiled(inputs)


def _captured(device: Device, trunk: FrozenLayers, inputs: Any) -> Callable[[], object]:
    stream = torch.cuda.Stream(device.device)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        trunk(inputs)  # warm-up outside the graph, as CUDA asks for
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        trunk(inputs)
    return graph.replay
