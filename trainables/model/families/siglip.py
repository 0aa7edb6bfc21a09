"""The SigLIP vision encoder, which several families put before their decoder: its blocks and its weights."""

from __future__ import annotations

from trainables.model.families.family import Blocks, Config, LinearShape, Shapes

ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
PARTS = ("weight", "bias")


def blocks(prefix: str, vision: Config) -> Blocks:
    """Return the linears of the blocks, which are at `prefix`.0, `prefix`.1, ..."""
    hidden, feed_forward = vision["hidden_size"], vision["intermediate_size"]
    return tuple(
        (
            *(LinearShape(f"{prefix}.{index}.self_attn.{name}", hidden, hidden) for name in ATTENTION),
            LinearShape(f"{prefix}.{index}.mlp.fc1", hidden, feed_forward),
            LinearShape(f"{prefix}.{index}.mlp.fc2", feed_forward, hidden),
        )
        for index in range(vision["num_hidden_layers"])
    )


def weights(tower: str, vision: Config) -> Shapes:
    """Return the shapes of the weights of the encoder at `tower`, but for the matrices of its blocks."""
    hidden, patch = vision["hidden_size"], vision["patch_size"]
    patches = (vision["image_size"] // patch) ** 2
    shapes: Shapes = {
        f"{tower}.embeddings.patch_embedding.weight": (hidden, vision["num_channels"], patch, patch),
        f"{tower}.embeddings.patch_embedding.bias": (hidden,),
        f"{tower}.embeddings.position_embedding.weight": (patches, hidden),
        **{f"{tower}.post_layernorm.{part}": (hidden,) for part in PARTS},
    }
    for index, block in enumerate(blocks(f"{tower}.encoder.layers", vision)):
        norms = (f"{tower}.encoder.layers.{index}.{norm}" for norm in ("layer_norm1", "layer_norm2"))
        shapes |= {f"{norm}.{part}": (hidden,) for norm in norms for part in PARTS}
        shapes |= {f"{linear.name}.bias": (linear.outputs,) for linear in block}
    return shapes


def pooling_head(tower: str, vision: Config) -> Shapes:
    """Return the shapes of the weights of the attention that pools all patches into one vector."""
    hidden, feed_forward, head = vision["hidden_size"], vision["intermediate_size"], f"{tower}.head"
    return {
        f"{head}.probe": (1, 1, hidden),
        f"{head}.attention.in_proj_weight": (3 * hidden, hidden),
        f"{head}.attention.in_proj_bias": (3 * hidden,),
        f"{head}.attention.out_proj.weight": (hidden, hidden),
        f"{head}.attention.out_proj.bias": (hidden,),
        **{f"{head}.layernorm.{part}": (hidden,) for part in PARTS},
        f"{head}.mlp.fc1.weight": (feed_forward, hidden),
        f"{head}.mlp.fc1.bias": (feed_forward,),
        f"{head}.mlp.fc2.weight": (hidden, feed_forward),
        f"{head}.mlp.fc2.bias": (hidden,),
    }
