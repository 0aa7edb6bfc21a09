"""The vision and audio towers of Gemma 4: the linears of the vision blocks, and the weights of both.

A linear of these towers is wrapped in a module that clips what goes in and comes out, by limits stored as weights. LoRA
goes on the linear within, so that what it adds is clipped too; PEFT cannot adapt the wrapper.
"""

from __future__ import annotations

from collections.abc import Iterable

from trainables.model.families.family import Blocks, Config, LinearShape, Shapes

WITHIN = ".linear"  # after the name of a module that clips
LIMITS = ("input_min", "input_max", "output_min", "output_max")
VISION, AUDIO = "model.vision_tower", "model.audio_tower"
# of transformers' classes, for values that config.json leaves out
VISION_DEFAULTS = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 16, "num_attention_heads": 12,
    "num_key_value_heads": 12, "head_dim": 64, "patch_size": 16, "position_embedding_size": 10_240,
    "use_clipped_linears": False, "standardize": False,
}  # fmt: skip
AUDIO_DEFAULTS = {
    "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 8, "subsampling_conv_channels": (128, 32),
    "conv_kernel_size": 5, "use_clipped_linears": True, "output_proj_dims": 1536,
}  # fmt: skip
SANDWICH = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"
)  # fmt: skip


def vision_blocks(vision: Config) -> Blocks:
    """Return the linears of the vision blocks, first to last, each within the module that clips it."""
    hidden, feed_forward, width = vision["hidden_size"], vision["intermediate_size"], vision["head_dim"]
    queries, keys = vision["num_attention_heads"] * width, vision["num_key_value_heads"] * width
    widths = {
        "self_attn.q_proj": (hidden, queries), "self_attn.k_proj": (hidden, keys), "self_attn.v_proj": (hidden, keys),
        "self_attn.o_proj": (queries, hidden), "mlp.gate_proj": (hidden, feed_forward),
        "mlp.up_proj": (hidden, feed_forward), "mlp.down_proj": (feed_forward, hidden),
    }  # fmt: skip
    layers = (f"{VISION}.encoder.layers.{index}" for index in range(vision["num_hidden_layers"]))
    return tuple(tuple(LinearShape(f"{at}.{name}{WITHIN}", *one) for name, one in widths.items()) for at in layers)


def vision_weights(vision: Config, text_width: int) -> Shapes:
    """Return the shapes of all weights of the vision tower but its linears, and of the linear to the decoder."""
    hidden = vision["hidden_size"]
    shapes: Shapes = {
        f"{VISION}.patch_embedder.position_embedding_table": (2, vision["position_embedding_size"], hidden),
        f"{VISION}.patch_embedder.input_proj.weight": (hidden, 3 * vision["patch_size"] ** 2),
        "model.embed_vision.embedding_projection.weight": (text_width, hidden),
    }
    if vision["use_clipped_linears"]:
        shapes |= _limits(one for block in vision_blocks(vision) for one in block)
    if vision["standardize"]:
        shapes |= {f"{VISION}.{name}": (hidden,) for name in ("std_bias", "std_scale")}
    for index in range(vision["num_hidden_layers"]):
        at = f"{VISION}.encoder.layers.{index}"
        shapes |= {f"{at}.{norm}.weight": (hidden,) for norm in SANDWICH}
        shapes |= {f"{at}.self_attn.{norm}.weight": (vision["head_dim"],) for norm in ("q_norm", "k_norm")}
    return shapes


def audio_linears(audio: Config) -> tuple[LinearShape, ...]:
    """Return the linears of the layers of the audio tower, each within the module that clips it."""
    hidden = audio["hidden_size"]
    widths = {
        **{f"feed_forward{one}.ffw_layer_1": (hidden, 4 * hidden) for one in (1, 2)},
        **{f"feed_forward{one}.ffw_layer_2": (4 * hidden, hidden) for one in (1, 2)},
        **{f"self_attn.{name}": (hidden, hidden) for name in ("q_proj", "k_proj", "v_proj", "post")},
        "lconv1d.linear_start": (hidden, 2 * hidden),
        "lconv1d.linear_end": (hidden, hidden),
    }
    layers = (f"{AUDIO}.layers.{index}" for index in range(audio["num_hidden_layers"]))
    return tuple(LinearShape(f"{at}.{name}{WITHIN}", *one) for at in layers for name, one in widths.items())


def audio_weights(audio: Config, text_width: int) -> Shapes:
    """Return the shapes of all weights of the audio tower, and of the linear from it to the decoder."""
    hidden, (first, second) = audio["hidden_size"], audio["subsampling_conv_channels"]
    front, out = f"{AUDIO}.subsample_conv_projection", audio["output_proj_dims"]
    shapes: Shapes = {
        f"{front}.layer0.conv.weight": (first, 1, 3, 3), f"{front}.layer0.norm.weight": (first,),
        f"{front}.layer1.conv.weight": (second, first, 3, 3), f"{front}.layer1.norm.weight": (second,),
        f"{front}.input_proj_linear.weight": (hidden, first // 4 * second),
        f"{AUDIO}.output_proj.weight": (out, hidden), f"{AUDIO}.output_proj.bias": (out,),
        "model.embed_audio.embedding_projection.weight": (text_width, out),
        **{f"{one.name}.weight": (one.outputs, one.inputs) for one in audio_linears(audio)},
    }  # fmt: skip
    if audio["use_clipped_linears"]:
        shapes |= _limits(audio_linears(audio))
    norms = [f"feed_forward{one}.{norm}_layer_norm" for one in (1, 2) for norm in ("pre", "post")]
    norms += ["lconv1d.pre_layer_norm", "lconv1d.conv_norm", "norm_pre_attn", "norm_post_attn", "norm_out"]
    for index in range(audio["num_hidden_layers"]):
        at = f"{AUDIO}.layers.{index}"
        shapes |= {f"{at}.{norm}.weight": (hidden,) for norm in norms}
        shapes[f"{at}.self_attn.per_dim_scale"] = (hidden // audio["num_attention_heads"],)
        shapes[f"{at}.self_attn.relative_k_proj.weight"] = (hidden, hidden)
        shapes[f"{at}.lconv1d.depthwise_conv1d.weight"] = (hidden, 1, audio["conv_kernel_size"])
    return shapes


def audio_layers(audio: Config) -> tuple[str, ...]:
    """Return the names of all layers of the audio tower that multiply matrices."""
    front = f"{AUDIO}.subsample_conv_projection"
    keys = (f"{AUDIO}.layers.{index}.self_attn.relative_k_proj" for index in range(audio["num_hidden_layers"]))
    return (
        f"{front}.layer0.conv", f"{front}.layer1.conv", f"{front}.input_proj_linear", *keys,
        *(one.name for one in audio_linears(audio)), f"{AUDIO}.output_proj",
        "model.embed_audio.embedding_projection",
    )  # fmt: skip


def _limits(linears: Iterable[LinearShape]) -> Shapes:
    return {f"{one.name.removesuffix(WITHIN)}.{limit}": () for one in linears for limit in LIMITS}
