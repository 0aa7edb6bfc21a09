"""Writes the model card of a shipped directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis import templates
from analysis.guard_limits import declared_limits
from analysis.intervals import proportion_interval
from analysis.shipping.chosen import ChosenAdapter
from trainables.data_files import data_files
from trainables.derived.copies import AVERAGED_EVALS
from trainables.io.files import read_json
from trainables.measurement import AVERAGE, Measurement
from trainables.metrics import METRICS
from trainables.shipping.agreement import MAX_LOSS_DIFFERENCE, Agreement
from trainables.shipping.base_terms import base_terms

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that `--max-lora-rank` takes


@dataclass(frozen=True)
class Shipment:
    """A directory that is written and measured: what was chosen, in which form, and what it scores.

    `scale` is the further strength that the command asked for; `strength` is in words what the directory holds, and
    `measured` what it scores: as recorded where that was compared, else as the fresh process measured it.
    `compared_with` is in words what `agreements` compare it with.
    """

    choice: ChosenAdapter
    scale: float
    strength: str
    merged: bool
    measured: Measurement
    compared_with: str
    agreements: tuple[Agreement, ...]
    digests: tuple[tuple[str, str], ...]


def model_card(shipment: Shipment) -> str:
    """Return the model card as Markdown, with the front matter that the hub reads."""
    choice, spec = shipment.choice, shipment.choice.spec
    placed = read_json(choice.record.directory / "placement.json")
    return templates.markdown(
        "analysis.shipping",
        "card.md",
        shipment=shipment,
        choice=choice,
        why=why_at(choice.why, shipment.scale),
        spec=spec,
        base=base_terms(spec.base.path),
        towers=[(name, len(one["modules"]), one["parameters"]) for name, one in placed.items() if one["modules"]],
        sees=bool(placed.get("vision", {}).get("modules")),
        images="irrelevant_pass" in shipment.measured.metrics,
        auto_class=_auto_class([name for one in placed.values() for name in one["modules"]]),
        metrics=_metrics(shipment),
        guards=declared_limits(choice.record, choice.baseline),
        tolerance=MAX_LOSS_DIFFERENCE,
        rank_limit=next((rank for rank in VLLM_RANKS if rank >= spec.rank), spec.rank),
        sources={"out-of-distribution" if name == "ood" else name: one for name, one in data_files(spec).items()},
    )


def why_at(why: str, scale: float) -> str:
    """Return why a candidate was chosen, and at another strength that its probabilities are not of what is shipped."""
    if scale == 1:
        return why
    return f"{why} This was judged before --scale; at {scale:g} of it only what is measured below is known."


def strength(measured: Measurement, scale: float) -> str:
    """Return in words which weights an eval at a further strength stands for."""
    if measured.scale == AVERAGE:
        further = "" if scale == 1 else f", at {scale:g} of it"
        return f"the average of the last {AVERAGED_EVALS} evals, cut to the rank{further}"
    total = float(measured.scale) * scale
    return "1 (as trained)" if total == 1 else f"{total:g} of what was trained"


def _auto_class(modules: Sequence[str]) -> str:
    """Return the class of transformers that loads a base with these modules: in one of text alone they are `model`'s.

    A base with a vision tower has its decoder at `model.language_model`, also where only text is trained.
    """
    of_text_alone = all(name.startswith("model.layers.") for name in modules)
    return "AutoModelForCausalLM" if of_text_alone else "AutoModelForImageTextToText"


def _metrics(shipment: Shipment) -> list[tuple[str, str, str, str]]:
    """Return name, better direction, the base alone and this model, with 95 % intervals where rows were counted."""
    base = shipment.choice.baseline
    return [
        (name, known.direction, _value(base, name), _value(shipment.measured, name))
        for name, known in METRICS.items()
        if name in shipment.measured.metrics and known.unit in ("fraction", "nats/token")
    ]


def _value(measured: Measurement | None, name: str) -> str:
    if measured is None or name not in measured.metrics:
        return "not known"
    text = f"{measured.metrics[name]:.4f}"
    if name not in measured.counts:
        return text
    low, high = proportion_interval(measured.counts[name])
    return f"{text} [{low:.3f}, {high:.3f}]"


def agreement_lines(agreements: Sequence[Agreement]) -> list[str]:
    """Return a line for each compared metric."""
    return [f"{'✓' if one.holds else '✗'} {one}" for one in agreements]
