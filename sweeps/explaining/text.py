"""An explanation as lines for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from sweeps.explaining.explanation import ExplainedTower, Explanation
from sweeps.explaining.sharing import Shared
from trainables.export.expressions import ToolExpression
from trainables.export.module_regex import module_expression

COLUMNS = 80


def lines_of(explanation: Explanation) -> Iterator[str]:
    """Return the lines of an explanation; those of prose are at most 80 columns wide, and expressions are whole."""
    one = explanation
    yield from _wrapped(f"{one.base}: {one.model_class}, {one.weights:,} weights")
    if one.experts:
        yield from _wrapped(
            f"{one.experts:.1%} of them are experts, which bitsandbytes leaves unquantized: use --quant none"
        )
    if not one.compared:
        yield from _wrapped("(from config.json alone: there are no weights beside it to compare)")
    yield ""
    for tower, facts in one.towers.items():
        yield from _tower(tower, facts, one.rank)
    yield ""
    yield from _sharing(one)
    for written in one.expressions:
        yield ""
        yield from _expression(written)


def _tower(tower: str, facts: ExplainedTower, rank: int) -> Iterator[str]:
    if not facts.modules:
        yield from _wrapped(f"{tower}: no module of {facts.layers} layers")
        return
    yield from _wrapped(
        f"{tower}: {len(facts.modules)} modules in {facts.layers - facts.frozen} of {facts.layers} layers, "
        f"{facts.parameters:,} parameters at rank {rank}"
    )
    yield f"  {module_expression(facts.modules)}"


def _sharing(one: Explanation) -> Iterator[str]:
    if not one.shares:
        yield from _wrapped("shared: nothing; trials of this family train one after another on one loaded base")
        return
    yield from _wrapped(f"shared with the arms of {one.study}, computed once in a pass of both:")
    for arm in one.shared:
        yield from _wrapped(f"  {_shared(arm, one)}", "      ")


def _shared(arm: Shared, one: Explanation) -> str:
    layers, vision = one.towers["language"].layers, one.towers.get("vision")
    said = f"{arm.arm} ({arm.placement}): "
    if vision is None:
        return f"{said}{arm.language_layers} of {layers} language layers"
    said += f"{arm.vision_blocks} of {vision.layers} vision blocks, {arm.language_layers} of {layers} language layers"
    if arm.language_layers == arm.language_layers_without_pictures:
        return said
    return f"{said} ({arm.language_layers_without_pictures} for rows without pictures)"


def _expression(written: ToolExpression) -> Iterator[str]:
    if written.text:
        yield f"{written.tool}:"
        yield from (f"  {line}" for line in written.text.splitlines())
        if written.note:
            yield from _wrapped(f"  ({written.note})", "  ")
    else:
        yield from _wrapped(f"{written.tool}: {written.note}", "  ")


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
