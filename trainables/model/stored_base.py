"""Checks a base before anything is loaded: its files, and that config.json and weights describe one model.

Only config.json and the headers of the weights are read, without torch. When a worker loads the base, the loading's own
report is checked in the same way (`model/loading.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import UserError, named
from trainables.model.families import TOWERS, Family, family_of
from trainables.model.families.family import Config, Shapes, Towers
from trainables.model.quantization import QUANTIZATION_TABLE
from trainables.model.stored_quantization import STATE, UNQUANTIZED, StoredWeight, declared_quantization, stored_weights
from trainables.model.weight_files import REPAIR_HINT, SHOWN, check_no_adapter, equal_values, listed, read_entries
from trainables.model.weight_report import ONE_MODEL_HINT, WeightReport, check_report
from trainables.spec import Quantization

HEAD = "lm_head.weight"
LAYER = re.compile(r"^(.*?)\.(\d+)\.")
PEFT_NAMES = re.compile(r"^base_model\.model\.|\.base_layer\.|\.lora_[A-Za-z]|\.modules_to_save\.|\.original_module\.")
UNQUANTIZED_HINT = "use the base that it was made from, which is quantized when it is loaded"


@dataclass(frozen=True)
class StoredBase:
    """A base as it lies in its directory; weights have their names in the model.

    `quantization` is that of the weights, `none` if they are floats.
    """

    path: Path
    family: Family
    config: Config
    weights: Mapping[str, StoredWeight]
    quantization: Quantization

    @property
    def files(self) -> frozenset[Path]:
        """Return the files that hold the weights."""
        return frozenset(weight.entry.file for weight in self.weights.values())

    @property
    def embedding_rows(self) -> int:
        """Return the number of tokens that the embedding knows; a tied base may hold the head in its place."""
        embedding = self.weights.get(embedding_of(self.family)) or self.weights[HEAD]
        return embedding.shape[0]


def read_base(path: Path) -> StoredBase:
    """Read config.json and the headers of the weights of a base, and check that they agree.

    Raises:
        UserError: a file is missing or damaged, an adapter lies beside the weights, weights and configuration are of
            different models, or the weights are quantized in a way that no trial can ask for.
    """
    family, config = family_of(path)
    check_no_adapter(path)
    shapes, towers = described(path, family, config)
    weights = _weights_by_name(path, family, config)
    linears = [f"{linear.name}.weight" for tower in TOWERS for block in towers[tower] for linear in block]
    quantization = _quantization(path, config, linears, weights)
    _check_depths(path, towers, weights)
    _check_tied(path, family, config, weights)
    check_report(path, family, _compared(_needed(shapes, family, config, weights), weights))
    return StoredBase(path, family, config, weights, quantization)


def is_available(base: StoredBase, quantization: Quantization) -> bool:
    """True when a base can be loaded in a quantization: its weights are floats, or stored in exactly this one."""
    return base.quantization in (UNQUANTIZED, quantization)


def check_quantization(base: StoredBase, quantization: Quantization) -> None:
    """Check that a base can be loaded in a quantization.

    Raises:
        UserError: the weights are stored in another quantization, or experts would stay unquantized.
    """
    check_experts(base, quantization)
    if not is_available(base, quantization):
        raise UserError(
            f"a base must be stored as floats or in the quantization that is asked for, but {base.path} is stored in "
            f"{base.quantization} and {quantization} is asked for",
            f"ask for {base.quantization}, or {UNQUANTIZED_HINT}",
        )


def check_experts(base: StoredBase, quantization: Quantization) -> None:
    """Refuse to quantize a base with experts, whose 3-D parameters bitsandbytes leaves as they are.

    Raises:
        UserError: names the share of the weights that would stay unquantized.
    """
    experts = sum(map(math.prod, base.family.experts(base.config).values()))
    if quantization == UNQUANTIZED or not experts:
        return
    shared = HEAD if base.family.is_tied(base.config) else None
    every = sum(math.prod(one) for name, one in base.family.weights(base.config).items() if name != shared)
    raise UserError(
        f"a base with experts must be loaded unquantized, but {quantization} is asked for: bitsandbytes quantizes only "
        f"linears, and {experts / every:.1%} of the weights of {base.path} are experts ({experts:,} of {every:,})",
        f"--quant {UNQUANTIZED}; it needs the memory of all weights in 16 bits",
    )


def embedding_of(family: Family) -> str:
    """Return the name of the embedding's weight in the model."""
    return f"{family.decoder}.embed_tokens.weight"


def described(path: Path, family: Family, config: Config) -> tuple[Shapes, Towers]:
    """Return the shapes of the model's weights and the linears of its towers, from config.json.

    Raises:
        UserError: config.json does not give depths and widths.
    """
    file = path / "config.json"
    if config.get("transformers_weights"):
        raise UserError(
            f"{file}: weights are read from model.safetensors, but `transformers_weights` names "
            f"`{named(str(config['transformers_weights']))}`",
            "save the base again with `save_pretrained`, which names its files as usual",
        )
    try:
        return family.weights(config), family.towers(config)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        reason = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{file}: must give the depths and widths of the model, but {reason}", REPAIR_HINT) from None


def _weights_by_name(path: Path, family: Family, config: Config) -> dict[str, StoredWeight]:
    stored = stored_weights(read_entries(path, STATE))
    foreign = sorted(name for name in stored if PEFT_NAMES.search(name))
    if foreign:
        raise UserError(
            f"a base must be a model without an adapter, but {path} has weights with names of PEFT: {listed(foreign)}",
            "merge the adapter and save the model: `model.merge_and_unload().save_pretrained(DIR)`",
        )
    first: dict[str, str] = {}
    for name in sorted(stored):
        other = first.setdefault(family.name_in_model(name), name)
        if other != name:
            raise UserError(
                f"a base must hold every weight once, but {path} has `{named(other)}` and `{named(name)}`", REPAIR_HINT
            )
    unread = family.unread_weights(config)
    return {
        model: stored[name]
        for model, name in first.items()
        if not (family.ignores(name) or family.ignores(model) or model in unread)
    }


def _quantization(
    path: Path, config: Config, linears: list[str], weights: Mapping[str, StoredWeight]
) -> Quantization:  # fmt: skip
    """Return the quantization of the weights: one of ours for every linear of the towers, or none at all."""
    declared = declared_quantization(config)
    found = {name: weight.quantization for name, weight in weights.items() if weight.quantization != UNQUANTIZED}
    kinds = sorted({declared, *found.values()} - {UNQUANTIZED})
    if not kinds:
        return UNQUANTIZED
    plain = [name for name in linears if name not in found]
    own: Quantization | None = next((name for name in QUANTIZATION_TABLE if kinds == [name]), None)
    if own is None:
        foreign = declared not in (UNQUANTIZED, *QUANTIZATION_TABLE)
        what = f"is stored as {declared if foreign else ' and '.join(kinds)}"
    elif declared == UNQUANTIZED:
        what = f"holds {own} weights that config.json does not declare"
    elif not found:
        what = f"holds floats where config.json declares {own}"
    elif plain:
        what = f"is stored in {own} but for {listed(plain)}"
    elif any(name.endswith((HEAD, "embed_tokens.weight")) for name in found):
        what = f"has its embedding or its head in {own}"
    else:
        return own
    raise UserError(
        "the weights of a base must be floats, or all linears of its blocks in one quantization of bitsandbytes that "
        f"config.json declares, but {path} {what}",
        UNQUANTIZED_HINT,
    )


def _check_depths(path: Path, towers: Towers, weights: Mapping[str, StoredWeight]) -> None:
    for tower in TOWERS:
        if not towers[tower]:
            continue
        first = LAYER.match(towers[tower][0][0].name)
        held = {int(at[2]) for at in map(LAYER.match, weights) if at and first and at[1] == first[1]}
        depth = set(range(len(towers[tower])))
        if held != depth:
            missing, extra = sorted(depth - held), sorted(held - depth)
            which = f"lack number {_some(missing)}" if missing else f"also have number {_some(extra)}"
            raise UserError(
                f"a base must have as many layers as its config.json says, which are {len(depth)} in the {tower} tower "
                f"(0 to {len(depth) - 1}), but the weights in {path} {which}",
                ONE_MODEL_HINT,
            )


def _check_tied(path: Path, family: Family, config: Config, weights: Mapping[str, StoredWeight]) -> None:
    """Check that a head that config.json ties to the embedding is equal to it, if both are stored."""
    embedding = embedding_of(family)
    if not family.is_tied(config) or not {HEAD, embedding} <= set(weights):
        return
    head, tied = weights[HEAD], weights[embedding]
    if not equal_values(head.entry, tied.entry):
        raise UserError(
            f"a head that config.json ties to the embedding (`tie_word_embeddings`) must be equal to it, but in {path} "
            f"`{HEAD}` and `{embedding}` differ",
            'set "tie_word_embeddings" to false in config.json if the model has a head of its own',
        )


def _needed(shapes: Shapes, family: Family, config: Config, weights: Mapping[str, StoredWeight]) -> Shapes:
    """Return the shapes of the weights that a base must hold; of a tied head and embedding, one is enough.

    Experts may be held in one of several layouts; the one of which the base holds the most is compared.
    """
    experts = family.experts(config)
    layouts = [*family.stored_experts(config), experts]
    held = max(layouts, key=lambda one: sum(name in weights and weights[name].shape == one[name] for name in one))
    shapes = {name: shape for name, shape in shapes.items() if name not in experts} | held
    pair = {HEAD, embedding_of(family)}
    absent = pair - set(weights)
    if not family.is_tied(config) or absent == pair:
        return shapes
    return {name: shape for name, shape in shapes.items() if name not in absent}


def _compared(shapes: Shapes, weights: Mapping[str, StoredWeight]) -> WeightReport:
    return WeightReport(
        missing=frozenset(shapes) - frozenset(weights),
        unexpected=frozenset(weights) - frozenset(shapes),
        reshaped={
            name: (weight.shape, shapes[name])
            for name, weight in weights.items()
            if name in shapes and weight.shape != shapes[name]
        },
    )


def _some(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN]))
    return f"{shown} and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else shown
