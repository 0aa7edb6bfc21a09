"""A tiny model with random weights for every family whose trials train one after another, with its processor.

Pictures of every size become a few tokens, and one row may hold several. The templates end turns and write pictures as
the published ones do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sequential_templates import CONTEXT, GEMMA3_TURNS, GEMMA4_TURNS, SPOKEN, THINKING_SEEING
from tiny_families import SHAPE

from trainables.mini import BASE_DIRECTORY
from trainables.model.families import FAMILIES

LAYERS, BLOCKS, IMAGE_PIXELS, PATCH_PIXELS = 4, 3, 48, 8
SIGLIP = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": BLOCKS, "num_attention_heads": 4,
          "image_size": IMAGE_PIXELS, "patch_size": PATCH_PIXELS, "initializer_range": 0.1}  # fmt: skip


@dataclass(frozen=True)
class TinySequential:
    """One family: its configuration for a vocabulary, its tokens by their names in the tokenizer, and its template.

    `end` ends an answer in the template. `image_processor` makes the image processor, and `processor` the one of
    transformers that makes the inputs of a conversation, from both; both are None for a family of text alone.
    """

    config: Callable[[Callable[[str], int], int], Mapping[str, Any]]
    template: str
    end: str
    eos: str
    pad: str
    bos: str | None = None
    tokens: Mapping[str, str] = field(default_factory=dict)
    image_processor: Callable[[], Any] | None = None
    processor: Callable[[Any, Any], Any] | None = None


def without_videos(processor_class: Any) -> Any:
    """Return a processor class that needs no video processor, for which torchvision would be needed."""

    class NoVideos(processor_class):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)

    return NoVideos


# -------------------------------------------------------------------- Gemma 3
def gemma3(token: Callable[[str], int], vocabulary: int) -> dict[str, Any]:
    text = {**SHAPE, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 24, "vocab_size": vocabulary,
            "layer_types": ["sliding_attention", "full_attention"] * 2}  # fmt: skip
    return {
        "text_config": text, "vision_config": {**SIGLIP, "vision_use_head": False, "model_type": "siglip_vision_model"},
        "mm_tokens_per_image": 9, "image_token_index": token("<image_soft_token>"),
        "boi_token_index": token("<start_of_image>"), "eoi_token_index": token("<end_of_image>"),
    }  # fmt: skip


def gemma3_images() -> Any:
    from transformers import Gemma3ImageProcessorPil

    return Gemma3ImageProcessorPil(size={"height": IMAGE_PIXELS, "width": IMAGE_PIXELS})


def gemma3_processor(images: Any, tokenizer: Any) -> Any:
    from transformers import Gemma3Processor

    return Gemma3Processor(images, tokenizer, image_seq_length=9)


# -------------------------------------------------------------------- Qwen3.5
LINEAR = {"head_dim": 32, "linear_key_head_dim": 16, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
          "linear_num_value_heads": 4, "full_attention_interval": 2}  # fmt: skip
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True,
         "partial_rotary_factor": 0.25}  # fmt: skip


def qwen3_5(token: Callable[[str], int], vocabulary: int) -> dict[str, Any]:
    return {
        "text_config": {**qwen3_5_text(token, vocabulary), "rope_parameters": MROPE},
        "vision_config": {"depth": BLOCKS, "hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64,
                          "num_heads": 4, "patch_size": PATCH_PIXELS, "num_position_embeddings": 64,
                          "initializer_range": 0.1},
        "image_token_id": token("<|image_pad|>"), "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"), "vision_end_token_id": token("<|vision_end|>"),
    }  # fmt: skip


def qwen3_5_text(_: Callable[[str], int], vocabulary: int) -> dict[str, Any]:
    return {**SHAPE, **LINEAR, "vocab_size": vocabulary}


def qwen_images() -> Any:
    from trainables.mini.model import image_processor

    processor = image_processor()
    processor.size = {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}
    return processor


def qwen_processor(images: Any, tokenizer: Any) -> Any:
    from transformers import Qwen3VLProcessor

    return without_videos(Qwen3VLProcessor)(images, tokenizer, None)


# -------------------------------------------------------------------- Gemma 4
def gemma4_text(_: Callable[[str], int], vocabulary: int) -> dict[str, Any]:
    kinds = ["sliding_attention", "full_attention"] * 2
    return {**SHAPE, "head_dim": 16, "global_head_dim": 32, "sliding_window": 24, "vocab_size": vocabulary,
            "vocab_size_per_layer_input": vocabulary, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2,
            "use_double_wide_mlp": True, "layer_types": kinds, "use_bidirectional_attention": "vision",
            "final_logit_softcapping": 3.0}  # fmt: skip


def gemma4(token: Callable[[str], int], vocabulary: int) -> dict[str, Any]:
    text = gemma4_text(token, vocabulary)
    vision = {**SIGLIP, "num_key_value_heads": 4, "head_dim": 8, "position_embedding_size": 32,
              "pooling_kernel_size": 2, "use_clipped_linears": True}  # fmt: skip
    return {"text_config": text, "vision_config": {name: one for name, one in vision.items() if name != "image_size"},
            "audio_config": None, "image_token_id": token("<|image|>"), "boi_token_id": token("<|image>"),
            "eoi_token_id": token("<image|>"), "audio_token_id": token("<|audio|>"),
            "video_token_id": token("<|video|>")}  # fmt: skip


def gemma4_images() -> Any:
    from transformers import Gemma4ImageProcessorPil

    return Gemma4ImageProcessorPil(patch_size=PATCH_PIXELS, pooling_kernel_size=2, max_soft_tokens=70)


def gemma4_processor(images: Any, tokenizer: Any) -> Any:
    from transformers import Gemma4Processor

    return without_videos(Gemma4Processor)(None, images, tokenizer, None, image_seq_length=70)


# -------------------------------------------------------------------- SmolVLM and Idefics 3
def smolvlm(token: Callable[[str], int], vocabulary: int) -> dict[str, Any]:
    return {"text_config": {**SHAPE, "vocab_size": vocabulary, "model_type": "llama"}, "vision_config": SIGLIP,
            "scale_factor": 2, "image_token_id": token("<image>")}  # fmt: skip


def tiles(name: str) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        return getattr(transformers, name)(size={"longest_edge": 96}, max_image_size={"longest_edge": IMAGE_PIXELS})

    return make


def smolvlm_processor(images: Any, tokenizer: Any) -> Any:
    from transformers.models.smolvlm import processing_smolvlm

    vars(processing_smolvlm)["num2words"] = str  # of a package that only videos need
    return without_videos(processing_smolvlm.SmolVLMProcessor)(images, tokenizer, None, image_seq_len=9)


def idefics3_processor(images: Any, tokenizer: Any) -> Any:
    from transformers import Idefics3Processor

    return Idefics3Processor(images, tokenizer, image_seq_len=9)


# -------------------------------------------------------------------- InternVL
def internvl(token: Callable[[str], int], vocabulary: int) -> dict[str, Any]:
    sides = {"image_size": [IMAGE_PIXELS] * 2, "patch_size": [PATCH_PIXELS] * 2}
    return {
        "text_config": {**SHAPE, "vocab_size": vocabulary, "model_type": "qwen2"},
        "vision_config": {**SIGLIP, **sides, "layer_scale_init_value": 1.0}, "image_seq_length": 9,
        "image_token_id": token("<IMG_CONTEXT>"),
    }  # fmt: skip


def internvl_images() -> Any:
    from transformers import GotOcr2ImageProcessorPil

    return GotOcr2ImageProcessorPil(size={"height": IMAGE_PIXELS, "width": IMAGE_PIXELS}, max_patches=4)


def internvl_processor(images: Any, tokenizer: Any) -> Any:
    from transformers import InternVLProcessor

    return without_videos(InternVLProcessor)(images, tokenizer, None, image_seq_length=9)


# the end of an answer, what the tokenizer calls the end and padding; GEMMA without the first, and with the beginning
CHATML = ("<|im_end|>", "<|im_end|>", "<|endoftext|>")
GEMMA = ("<eos>", "<pad>", "<bos>")
SPEECH = ("<end_of_utterance>", "<end_of_utterance>", "<|endoftext|>")
TILE_TOKENS = {
    "fake_image_token": "<fake_token_around_image>", "global_image_token": "<global-img>", "image_token": "<image>",
    **{f"tile_{row}_{column}": f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)},
}  # fmt: skip
TINY_SEQUENTIAL: dict[str, TinySequential] = {
    "gemma3": TinySequential(
        gemma3, GEMMA3_TURNS, "<end_of_turn>", *GEMMA, image_processor=gemma3_images, processor=gemma3_processor,
        tokens={"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}),
    "qwen3_5": TinySequential(
        qwen3_5, THINKING_SEEING, *CHATML, image_processor=qwen_images, processor=qwen_processor),
    "gemma4": TinySequential(
        gemma4, GEMMA4_TURNS, "<turn|>", *GEMMA, image_processor=gemma4_images, processor=gemma4_processor,
        tokens={"boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>", "turn_token": "<|turn>",
                "boa_token": "<|audio>", "eoa_token": "<audio|>", "audio_token": "<|audio|>",
                "video_token": "<|video|>"}),
    "smolvlm": TinySequential(
        smolvlm, SPOKEN, *SPEECH, image_processor=tiles("SmolVLMImageProcessorPil"), processor=smolvlm_processor,
        tokens=TILE_TOKENS),
    "idefics3": TinySequential(
        smolvlm, SPOKEN, *SPEECH, image_processor=tiles("Idefics3ImageProcessorPil"), processor=idefics3_processor,
        tokens=TILE_TOKENS),
    "internvl": TinySequential(
        internvl, CONTEXT, *CHATML, image_processor=internvl_images, processor=internvl_processor,
        tokens={"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
                "video_token": "<video>"}),
    "gemma4_text": TinySequential(gemma4_text, GEMMA4_TURNS, "<turn|>", *GEMMA, tokens={"turn_token": "<|turn>"}),
    "qwen3_5_text": TinySequential(qwen3_5_text, THINKING_SEEING, *CHATML),
}  # fmt: skip
SEEING = [name for name in TINY_SEQUENTIAL if FAMILIES[name].sees]
PLACED_BLOCKS = {name: BLOCKS if name in SEEING else 0 for name in TINY_SEQUENTIAL}


def sequential_tokenizer(family: str) -> Any:
    """Return the miniature's tokenizer with the tokens and the template of a family."""
    from transformers import AutoTokenizer

    tiny = TINY_SEQUENTIAL[family]
    tokenizer = AutoTokenizer.from_pretrained(BASE_DIRECTORY)
    own = [
        token for token in (tiny.end, tiny.eos, tiny.pad, tiny.bos, "<start_of_turn>", *tiny.tokens.values()) if token
    ]
    tokenizer.add_special_tokens({"extra_special_tokens": own}, replace_extra_special_tokens=False)
    tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token = tiny.eos, tiny.bos, tiny.pad
    tokenizer.chat_template = tiny.template
    return tokenizer


def sequential_config(family: str, **changes: Any) -> Any:
    """Make the configuration of a tiny model, for the family's tokenizer."""
    from transformers import AutoConfig

    tokenizer = sequential_tokenizer(family)
    values = TINY_SEQUENTIAL[family].config(tokenizer.convert_tokens_to_ids, len(tokenizer))
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id}  # fmt: skip
    if "text_config" in values:
        values = {**values, "text_config": {**values["text_config"], **ends}}
    else:
        values = {**values, **ends}
    return AutoConfig.for_model(family, **{**values, **changes})


def write_sequential_base(family: str, directory: Path) -> Path:
    """Save a tiny base: weights, tokenizer and, if it sees, image processor."""
    import torch
    import transformers

    tiny = TINY_SEQUENTIAL[family]
    sequential_tokenizer(family).save_pretrained(directory)
    if tiny.image_processor is not None:
        tiny.image_processor().save_pretrained(directory)
    torch.manual_seed(11)
    model_class = getattr(transformers, FAMILIES[family].model_class)
    model = model_class(sequential_config(family))
    with torch.no_grad():  # some projectors start at zero, so that no picture would change anything
        for parameter in (one for one in model.parameters() if not bool(one.any())):
            parameter.normal_(std=0.1)
    model.save_pretrained(directory)
    return directory


def reference_processor(family: str, directory: Path) -> Any:
    """Return transformers' own processor for a base, which knows the names of the family's tokens."""
    from transformers import AutoTokenizer

    tiny = TINY_SEQUENTIAL[family]
    assert tiny.image_processor is not None and tiny.processor is not None
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer = (
        AutoTokenizer.from_pretrained(directory, extra_special_tokens=dict(tiny.tokens)) if tiny.tokens else tokenizer
    )
    images = type(tiny.image_processor()).from_pretrained(directory)
    return tiny.processor(images, tokenizer)
