"""Measures how much each linear would be changed first: the gradient of its lora_B, which is 0, on a few rows.

Internal: a launch starts it as `python -m trainables.training.layer_gradients JOB`, where JOB is a file with a
`GradientJob`, because the base shall not stay in the memory of the launch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.command import quieten_libraries, run
from trainables.errors import UserError
from trainables.gradient_norms import GRADIENT_ROWS, GradientJob, GradientNorms, GradientSource
from trainables.io.files import read_json, write_json
from trainables.model.families import TOWERS
from trainables.model.placement import resolve
from trainables.placement import Placement
from trainables.spec import FORMAT, TrialSpec

if TYPE_CHECKING:
    from trainables.engine import Engine
    from trainables.model.lora import Adapter

RANK = 16  # of the measured adapter; its scale is 1


def main(job: Annotated[Path, typer.Argument(help="File that a launch wrote.")]) -> None:
    """Measure the gradients of all layers. It is internal: another process starts it, that of a launch."""
    quieten_libraries()
    from trainables.engine import Engine

    asked = GradientJob.model_validate(read_json(job))
    measured = layer_gradients(Engine.load(asked.spec), asked.spec)
    write_json(asked.result, measured.model_dump(mode="json"))


def layer_gradients(engine: Engine, spec: TrialSpec) -> GradientNorms:
    """Return the gradients on the first 32 training rows, one row a pass, without dropout; the base is restored.

    Raises:
        UserError: a row does not fit, or a gradient is not finite.
    """
    from trainables.model.lora import place

    towers = engine.base.towers
    everything = Placement(language=len(towers["language"]), vision=len(towers["vision"]))
    fresh = {"format": FORMAT, "rank": RANK, "alpha": float(RANK), "rslora": False, "dropout": 0.0, "seed": 0,
             "placement": everything, "target_modules": ()}  # fmt: skip
    adapter = place(engine.base, spec.model_copy(update=fresh), resolve(everything, towers))
    try:
        rows = min(GRADIENT_ROWS, len(engine.train))
        tokens, loss = _backward(engine, rows, spec.max_tokens)
        norms = _norms(adapter)
    finally:
        adapter.remove()
    broken = [name for name, norm in norms.items() if not math.isfinite(norm)]
    if broken or not math.isfinite(loss):
        raise UserError(
            f"layers can be chosen by finite gradients only, but those of {', '.join(broken[:3]) or 'the loss'} are "
            f"not finite in {spec.compute_dtype}",
            "--layers last, or --set compute_dtype=float32",
        )
    return GradientNorms(
        source=GradientSource.of(spec), rows=rows, supervised_tokens=tokens, loss=loss, norms=norms
    )  # fmt: skip


def _backward(engine: Engine, rows: int, max_tokens: int) -> tuple[int, float]:
    """Add the gradients of the mean loss over all supervised tokens; return their number and the loss."""
    from torch.nn.functional import cross_entropy

    from trainables.data.encoding import collate
    from trainables.evaluation.evaluator import label_logits

    encoded = [engine.encode(index, max_tokens) for index in range(rows)]
    batches = [collate([one], engine.encoder, engine.base.device, pad_left=False) for one in encoded]
    tokens = sum(batch.supervised_tokens for batch in batches)
    total = 0.0
    for batch in batches:
        logits, targets = label_logits(engine.base, batch)
        loss = cross_entropy(logits, targets, reduction="sum") / tokens
        loss.backward()
        total += float(loss.detach())
    return tokens, total


def _norms(adapter: Adapter) -> dict[str, float]:
    return {
        name: 0.0 if factor_b.grad is None else float(factor_b.grad.double().norm())
        for tower in TOWERS
        for name, (_, factor_b) in adapter.factors(tower).items()
    }


if __name__ == "__main__":
    run(main)
