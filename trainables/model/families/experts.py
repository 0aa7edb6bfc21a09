"""Decoders with a mixture of experts: LoRA goes on the linears of attention, and only on request on the experts.

The experts of a layer are two 3-D parameters, which are no linears: bitsandbytes leaves them unquantized, and PEFT
reaches them through `target_parameters`. A pass of several trials rounds otherwise than one of a single trial, and a
router can then choose another expert. So trials of these families train one after another.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainables.model.families.decoder_weights import FEED_FORWARD, LayerWeights, decoder_weights
from trainables.model.families.family import Blocks, Config, ExpertTowers, LinearShape, Shapes, Towers, decoder_layers


def expert_count(text: Config) -> int:
    """Return the number of experts of a layer, which configurations name in two ways."""
    return text.get("num_experts") or text["num_local_experts"]


def is_sparse(index: int, text: Config) -> bool:
    """True when a layer holds experts; the others are dense, as `mlp_only_layers` and `decoder_sparse_step` say."""
    dense: Sequence[int] = text.get("mlp_only_layers") or ()
    return index not in dense and (index + 1) % (text.get("decoder_sparse_step") or 1) == 0


def expert_towers(prefix: str, text: Config, width: int) -> ExpertTowers:
    """Return the linears of attention of the layers at `prefix`, and their experts of inner `width`."""
    hidden, count = text["hidden_size"], expert_count(text)
    layers = decoder_layers(prefix, text)
    attention: Blocks = tuple(tuple(one for one in layer if ".self_attn." in one.name) for layer in layers)
    experts: Blocks = tuple(
        (
            LinearShape(f"{prefix}.{index}.mlp.experts.gate_up_proj", hidden, 2 * width, count),
            LinearShape(f"{prefix}.{index}.mlp.experts.down_proj", width, hidden, count),
        )
        if is_sparse(index, text)
        else ()
        for index in range(len(layers))
    )
    towers: Towers = {"language": attention, "vision": ()}
    return ExpertTowers(towers, experts)


def expert_weights(decoder: str, text: Config, layer: LayerWeights, towers: ExpertTowers) -> Shapes:
    """Return the shapes of all weights of the decoder but the linears of attention: experts and routers too."""
    shapes = decoder_weights(decoder, text, layer)
    for index, (experts, linears) in enumerate(
        zip(towers.experts, decoder_layers(f"{decoder}.layers", text), strict=True)
    ):
        shapes |= {one.name: (one.experts, one.outputs, one.inputs) for one in experts}
        if experts:
            shapes[f"{decoder}.layers.{index}.mlp.gate.weight"] = (expert_count(text), text["hidden_size"])
        else:
            dense = [one for one in linears if one.name.rsplit(".", 1)[1] in FEED_FORWARD]
            shapes |= {f"{one.name}.weight": (one.outputs, one.inputs) for one in dense}
    return shapes


def separate_experts(towers: ExpertTowers, gate: str, up: str, down: str) -> Shapes:
    """Return the weights of files that hold every expert by itself, with these names of its three matrices."""
    shapes: Shapes = {}
    for gate_up_proj, down_proj in filter(None, towers.experts):
        at, inner, hidden = gate_up_proj.name.rpartition(".")[0], down_proj.inputs, down_proj.outputs
        for number in range(down_proj.experts):
            names = (f"{at}.{number}.{one}.weight" for one in (gate, up, down))
            shapes |= dict(zip(names, ((inner, hidden), (inner, hidden), (hidden, inner)), strict=True))
    return shapes


def transposed_experts(towers: ExpertTowers) -> Shapes:
    """Return the weights of files that hold the experts' parameters with inputs before outputs."""
    return {one.name: (one.experts, one.inputs, one.outputs) for block in towers.experts for one in block}
