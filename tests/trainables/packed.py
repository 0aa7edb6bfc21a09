"""Builds packed and solo trials in float64: engines, trained adapters, batches, gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any

import pytest
import torch
from small_trials import Sources
from torch.nn.functional import cross_entropy

from trainables.data.encoding import IGNORED, Batch, collate
from trainables.data.rows import Message, Row
from trainables.engine import Engine
from trainables.evaluation.evaluator import label_logits
from trainables.health import eval_integrity
from trainables.health.eval_integrity import Measured
from trainables.model.base import Base
from trainables.model.lora import Adapter, place
from trainables.model.placement import resolve
from trainables.probes.captions import captions
from trainables.probes.probe import Baseline
from trainables.spec import Placement, TrialSpec

if TYPE_CHECKING:
    from trainables.cohort.shared_forward import SharedForward


MAX_NEW_TOKENS, TRAIN_SLICE_ROWS = 3, 2  # of the evals here: what they cost is no concern of these tests
LANGUAGE_LAYERS, VISION_BLOCKS, TAPS = 8, 12, 3
Gradients = dict[str, torch.Tensor | None]


# -------------------------------------------------------------------- float64 all the way
def widening(narrow: Callable[..., Any]) -> Callable[..., Any]:
    """Keep float64 tensors when code asks for float32."""

    @wraps(narrow)
    def wide(tensor: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        asked = torch.float32 in (*given, named.get("dtype")) or narrow.__name__ == "float"
        return tensor if asked and tensor.dtype == torch.float64 else narrow(tensor, *given, **named)

    return wide


@contextmanager
def all_double() -> Iterator[None]:
    """Prevent float64 tensors from being cast down: norms, rotations and logits of the model ask for float32."""
    kept = torch.Tensor.float, torch.Tensor.to
    torch.Tensor.float, torch.Tensor.to = (widening(one) for one in kept)  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.float, torch.Tensor.to = kept  # type: ignore[method-assign]


@cache
def plain_engine(sources: Sources) -> Engine:
    """Load an engine whose evals are short."""
    torch.set_num_threads(1)
    engine = Engine.load(sources.spec(), torch.device("cpu"))
    shorten_evals(engine)
    return engine


@cache
def double_engine(sources: Sources, nf4: bool = False) -> Engine:
    """Load an unquantized engine in float64; with `nf4`, its linears hold the values that NF4 leaves of them."""
    torch.set_num_threads(1)
    engine = Engine.load(sources.spec(), torch.device("cpu"))
    if nf4:
        _take_nf4_values(engine.base.model, sources)
    engine.base.model.double()
    shorten_evals(engine)
    pixels = engine.encoder.pixels
    engine.encoder.pixels = lambda view: replace(pixels(view), values=pixels(view).values.double())
    return engine


def shorten_evals(engine: Engine) -> None:
    engine.evaluator.max_new_tokens = MAX_NEW_TOKENS
    evaluator = engine.evaluator
    evaluator.train_slice = evaluator.train_slice[:TRAIN_SLICE_ROWS]
    evaluator.data = replace(evaluator.data, train_slice=evaluator.data.train_slice[:TRAIN_SLICE_ROWS])


def _take_nf4_values(model: torch.nn.Module, sources: Sources) -> None:
    # bitsandbytes computes in float32 at most, so float64 takes the values and leaves the kernels
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    spec = sources.spec(quantization="nf4")
    quantized = Engine.load(spec, torch.device("cpu"), resident="quantized").base.model
    layers = {name: one for name, one in quantized.named_modules() if isinstance(one, Linear4bit)}
    assert len(layers) == LANGUAGE_LAYERS * 7 + VISION_BLOCKS * 4 + 2 * (1 + TAPS)
    for name, layer in layers.items():
        values = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        weight = model.get_submodule(name).weight
        assert not torch.equal(weight, values)
        weight.data.copy_(values)


@cache
def short_baseline(engine_of: Callable[[Sources], Engine], sources: Sources) -> Baseline:
    """Measure the base alone with the engine's short evals."""
    engine = engine_of(sources)
    scores, answers = engine.evaluator.measure(None)
    return Baseline(scores.metrics, captions(engine.evaluator.data, answers), scores.counts)


# -------------------------------------------------------------------- batches
def text_row(asked: str, answered: str) -> Row:
    return Row(f"text/{asked}", (Message("user", asked), Message("assistant", answered)), ())


def batches(engine: Engine) -> dict[str, Batch]:
    """Make one small batch of each kind of rows: with a picture, of text alone, and both beside two pictures."""
    shown = [engine.encode(index, 2048) for index in (0, 1)]
    output = [
        engine.encoder.conversation(text_row("What is two plus three?", "five.")),
        engine.encoder.conversation(text_row("What is two?", "five six.")),
    ]
    first, second = engine.train[0], engine.train[1]
    asked = "<image>Report the state.<image>"
    both = Row("two", (Message("user", asked), first.messages[-1]), (*first.images, *second.images))
    mixed = [output[0], shown[1], engine.encoder.conversation(both)]
    kinds = {"image": shown, "text": output, "mixed": mixed}
    return {kind: collated(rows, engine) for kind, rows in kinds.items()}


def collated(rows: Sequence[Any], engine: Engine) -> Batch:
    return collate(rows, engine.encoder, engine.base.device, pad_left=False)


# -------------------------------------------------------------------- gradients
def grown(base: Base, spec: TrialSpec, noise: float = 0.05) -> Adapter:
    """Place an adapter and fill lora_B with noise as if trained: at zero, lora_A would have no gradient."""
    adapter = place(base, spec, resolve(spec.placement, base.towers))
    generator = torch.Generator().manual_seed(spec.seed + 17)
    for name, parameter in adapter.trained():
        parameter.data = parameter.data.to(base.model.dtype)
        if ".lora_B." in name:
            parameter.data.copy_(noise * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return adapter


def lifted(base: Base, specs: Sequence[TrialSpec], noise: float = 0.05) -> list[Adapter]:
    """Create the adapters of `specs`, ready to be stacked."""
    adapters = []
    for spec in specs:
        adapters.append(grown(base, spec, noise))
        adapters[-1].remove()
    return adapters


def measured_alone(engine: Engine, specs: Sequence[TrialSpec], baseline: Baseline, noise: float) -> list[Measured]:
    """Return the eval of each trial with its grown adapter alone on the base; no two answer alike."""
    found = []
    for spec in specs:
        adapter = grown(engine.base, spec, noise)
        engine.base.model.eval()
        found.append(eval_integrity.measure(engine.evaluator, baseline, 1))
        adapter.remove()
    assert len({tuple(one.answers.values()) for one in found}) == len(found), "equality would say nothing"
    return found


def assert_measured_alike(together: Mapping[int, Measured], alone: Sequence[Measured]) -> None:
    """Compare the evals of a cohort's members with those of the same trials alone, in float64."""
    for number, own in enumerate(alone):
        assert list(together[number].answers.items()) == list(own.answers.items())
        assert together[number].scores.metrics == pytest.approx(own.scores.metrics, rel=1e-10, abs=1e-12)
        assert together[number].scores.counts == own.scores.counts
        assert together[number].finding == own.finding is None


def alone(engine: Engine, spec: TrialSpec, kinds: dict[str, Batch]) -> dict[str, tuple[float, Gradients]]:
    """Return loss and gradients of one trial on every batch, PEFT live on the base."""
    adapter = grown(engine.base, spec)
    try:
        return {kind: _alone(engine.base, adapter, batch) for kind, batch in kinds.items()}
    finally:
        adapter.remove()


def _alone(base: Base, adapter: Adapter, batch: Batch) -> tuple[float, Gradients]:
    with training(base):
        logits, targets = label_logits(base, batch)
    loss = cross_entropy(logits, targets)
    if loss.requires_grad:
        loss.backward()
    return float(loss.detach()), gradients(adapter)


def packed(shared: SharedForward, numbers: Sequence[int], batch: Batch) -> dict[int, tuple[float, Gradients]]:
    """Return loss and gradients of the members `numbers`, in one pass."""
    with training(shared.base):
        out = shared.logits(batch, numbers)
    losses = [cross_entropy(one, out.targets) for one in out.values]
    reached = [one for one in losses if one.requires_grad]
    if reached:
        torch.stack(reached).sum().backward()
    by_member = {
        member: float(loss.detach()) for group, loss in zip(out.groups, losses, strict=True) for member in group
    }
    return {number: (by_member[number], gradients(shared.lora.adapters[number])) for number in numbers}


@contextmanager
def training(base: Base) -> Iterator[None]:
    base.model.train()
    try:
        yield
    finally:
        base.model.eval()


def gradients(adapter: Adapter) -> Gradients:
    """Return the gradients of an adapter and clear them."""
    found = {name: p.grad for name, p in adapter.trained()}
    for _, parameter in adapter.trained():
        parameter.grad = None
    return found


def furthest(own: Gradients, other: Gradients) -> float:
    """Return the largest difference of two sets of gradients, relative to the largest gradient of its tensor."""
    assert own.keys() == other.keys()
    worst = 0.0
    for name, gradient in own.items():
        against = other[name]
        if gradient is None or against is None:
            present = gradient if gradient is not None else against
            assert present is None or not present.any(), f"{name} has a gradient on one side only"
            continue
        worst = max(worst, float((gradient - against).abs().max()) / max(float(against.abs().max()), 1e-6))
    return worst


@contextmanager
def counted(base: Base) -> Iterator[dict[str, list[int]]]:
    """Count the token rows that every block computes, by tower; entered after a shared forward has added its hooks."""
    from trainables.cohort.shared_forward import block_name

    towers = {
        tower: [base.model.get_submodule(block_name(block)) for block in blocks]
        for tower, blocks in base.towers.items()
    }
    counts = {tower: [0] * len(blocks) for tower, blocks in towers.items()}

    def count(_: Any, given: tuple[torch.Tensor, ...], tower: str, index: int) -> None:
        counts[tower][index] += given[0].numel() // given[0].shape[-1]

    handles = [
        # a frozen prefix does not call the block itself, but all it computes goes through the block's mlp
        block.mlp.register_forward_pre_hook(partial(count, tower=tower, index=index))
        for tower, blocks in towers.items()
        for index, block in enumerate(blocks)
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def predicting_rows(batch: Batch) -> int:
    """Return the token rows of which the last layer computes its mlp: as many in each row as the most labels in one."""
    return len(batch.labels) * int((batch.labels[:, 1:] != IGNORED).sum(dim=1).max())


SELECTIONS = (
    Placement(language=2, language_indices=(0, 1)),
    Placement(language=4, language_indices=(1, 3, 5, 7), modules="mlp"),
    Placement(language=8, modules="attention"),
    Placement(language=3, language_indices=(0, 4, 6), vision=3, vision_indices=(0, 5, 11), modules="gate-up"),
    Placement(language=1, vision=2, vision_indices=(0, 1)),
    Placement(vision=4, vision_indices=(2, 5, 8, 11), modules="attention"),
    Placement(language=2, vision=1, modules="mlp"),
    Placement(language=3),
)


def selected_members(make: Callable[..., TrialSpec], **common: Any) -> list[TrialSpec]:
    """Make a trial of each selection of layers and kinds, with other ranks, dropouts and seeds."""
    return [
        make(
            name=str(placement),
            placement=placement,
            rank=(4, 8, 1, 6)[number % 4],
            dropout=(0.1, 0.0, 0.5)[number % 3],
            rslora=number % 2 == 1,
            seed=number % 3,
            **common,
        )
        for number, placement in enumerate(SELECTIONS)
    ]


def mixed_members(make: Callable[..., TrialSpec], **common: Any) -> list[TrialSpec]:
    """Make thirteen trials that together have every depth of both towers, and every setting that acts in a pass."""
    made = []
    for vision in range(VISION_BLOCKS + 1):
        language = (vision * 5 + 4) % (LANGUAGE_LAYERS + 1)
        made.append(
            make(
                name=f"L{language}-V{vision}",
                placement=Placement(language=language, vision=vision),
                rank=(4, 8, 1, 6)[vision % 4],
                alpha=(8.0, 32.0, 3.0)[vision % 3],
                dropout=(0.1, 0.0, 0.5)[vision % 3],
                rslora=vision % 2 == 1,
                seed=vision % 3,
                **common,
            )
        )
    return made
