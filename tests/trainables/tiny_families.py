"""A tiny model with random weights for every family, built from transformers' classes.

Each has the quirk of its family: grouped keys, heads wider than the model, a sliding window shorter than the rows,
soft-capped logits, layers without positions, fused projections, DeepStack, windows in the vision tower, and a chat
template that ends a turn as the published one does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from small_trials import Sources, hashed_sources

from trainables.mini import BASE_DIRECTORY
from trainables.mini import tokenizer as tokens
from trainables.mini.model import image_processor
from trainables.model.families import FAMILIES
from trainables.spec import Placement, TrialSpec

LAYERS, WINDOW = 4, 12
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,  # logits that differ
}
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# as Qwen3's: the last answer begins with its thoughts, of which there are none unless they are asked for
THINKING = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' "
    "+ message.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
INSTRUCTIONS = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + message.content + eos_token }}{% endif %}{% endfor %}"
)
TURNS = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% set role = 'model' if message.role == 'assistant' else message.role %}"
    "{{ '<start_of_turn>' + role + '\n' + message.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# as Phi-4's
SEPARATED = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '<|im_sep|>' + message.content + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
# as SmolLM3's: a system turn with the date, and an empty block of thoughts before every answer
REASONING_MODE = (
    "{{ '<|im_start|>system\nToday: ' ~ strftime_now('%d %B %Y') ~ '\nReasoning: ' }}"
    "{{ ('/think' if enable_thinking else '/no_think') + '<|im_end|>\n' }}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' and not enable_thinking %}{{ '<think>\n\n</think>\n' }}{% endif %}"
    "{{ message.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if not enable_thinking %}{{ '<think>\n\n</think>\n' }}{% endif %}{% endif %}"
)
# as GLM-4's: nothing ends an answer but the next turn
UNENDED = (
    "{{ '[gMASK]<sop>' }}{% for message in messages %}{{ '<|' + message.role + '|>\n' + message.content }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# as Mistral Small 3.1's: a system turn with the date where a conversation has none
SYSTEM_PROMPT = (
    "{{ bos_token }}{% if messages[0].role != 'system' %}"
    "{{ '[SYSTEM_PROMPT]It is ' ~ strftime_now('%Y-%m-%d') ~ '.[/SYSTEM_PROMPT]' }}{% endif %}"
    "{% for message in messages %}{% if message.role == 'user' %}{{ '[INST]' + message.content + '[/INST]' }}"
    "{% else %}{{ message.content + eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Tiny:
    """One family: its configuration beyond the common shape, its special tokens, and its template.

    `end` ends an answer in the template, or, of GLM-4, is the token that begins the next turn; `eos` is what the
    tokenizer calls the end of a sequence. With `decoder`, its `model_type`, the common shape is that of `text_config`.
    """

    template: str
    end: str
    eos: str
    bos: str | None = None
    pad: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    decoder: str | None = None


ALTERNATING = ["sliding_attention", "full_attention"] * (LAYERS // 2)
GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32}
PARTIAL = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
# queries are scaled up from the sixteenth position on
LONG_QUERIES = {
    "head_dim": 32,
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 16.0,
        "original_max_position_embeddings": 16,
        "llama_4_scaling_beta": 0.5,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    },
}
PIXTRAL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 8,
}
TINY: dict[str, Tiny] = {
    "qwen2": Tiny(CHATML, "<|im_end|>", "<|im_end|>", pad="<|endoftext|>",
                  config={"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2}),
    "qwen3": Tiny(THINKING, "<|im_end|>", "<|im_end|>", pad="<|endoftext|>", config={"head_dim": 32}),
    "llama": Tiny(HEADERS, "<|eot_id|>", "<|end_of_text|>", bos="<|begin_of_text|>"),
    "mistral": Tiny(INSTRUCTIONS, "</s>", "</s>", bos="<s>", config={"sliding_window": WINDOW}),
    "smollm3": Tiny(REASONING_MODE, "<|im_end|>", "<|im_end|>", pad="<|endoftext|>",
                    config={"no_rope_layer_interval": 2}),
    "phi3": Tiny(SEPARATED, "<|im_end|>", "<|im_end|>", bos="<|endoftext|>", pad="<|dummy_85|>",
                 config={"sliding_window": WINDOW, "rope_parameters": PARTIAL}),
    "ministral": Tiny(INSTRUCTIONS, "</s>", "</s>", bos="<s>",
                      config={"head_dim": 32, "sliding_window": WINDOW, "layer_types": ALTERNATING}),
    "ministral3": Tiny(SYSTEM_PROMPT, "</s>", "</s>", bos="<s>", pad="<pad>", config=LONG_QUERIES),
    "mistral3": Tiny(SYSTEM_PROMPT, "</s>", "</s>", bos="<s>", pad="<pad>", decoder="ministral3",
                     config={"vision_config": PIXTRAL, "tie_word_embeddings": False, "text_config": LONG_QUERIES}),
    "glm": Tiny(UNENDED, "<|user|>", "<|endoftext|>", pad="<|endoftext|>", config={"head_dim": 32}),
    "glm4": Tiny(UNENDED, "<|user|>", "<|endoftext|>", pad="<|endoftext|>", config={"head_dim": 32}),
    "gemma": Tiny(TURNS, "<end_of_turn>", "<eos>", bos="<bos>", pad="<pad>", config={"head_dim": 32}),
    "gemma2": Tiny(TURNS, "<end_of_turn>", "<eos>", bos="<bos>", pad="<pad>",
                   config={**GEMMA, "sliding_window": WINDOW, "layer_types": ALTERNATING,
                           "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}),
    "gemma3_text": Tiny(TURNS, "<end_of_turn>", "<eos>", bos="<bos>", pad="<pad>",
                        config={**GEMMA, "sliding_window": WINDOW, "layer_types": ALTERNATING}),
}  # fmt: skip

MIXTURE = {"num_experts_per_tok": 2, "moe_intermediate_size": 48, "num_experts": 4}
# the first layer of Qwen3-MoE is dense here
TINY_EXPERTS: dict[str, Tiny] = {
    "qwen3_moe": Tiny(THINKING, "<|im_end|>", "<|im_end|>", pad="<|endoftext|>",
                      config={**MIXTURE, "head_dim": 32, "mlp_only_layers": [0], "norm_topk_prob": True}),
    "mixtral": Tiny(INSTRUCTIONS, "</s>", "</s>", bos="<s>",
                    config={"num_experts_per_tok": 2, "num_local_experts": 4, "sliding_window": WINDOW}),
}  # fmt: skip
TINY_TEXT = {**TINY, **TINY_EXPERTS}


@dataclass(frozen=True)
class TinyVision:
    """A family that takes pictures: its configuration beyond the common shapes, and its template."""

    template: str
    text: Mapping[str, Any]
    vision: Mapping[str, Any]


# as Qwen2-VL's and Qwen2.5-VL's: a conversation without a system turn is given one
WITH_SYSTEM = (
    "{% for message in messages %}{% if loop.first and message.role != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message.role + '\n' }}{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' or 'image' in part or 'image_url' in part %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{% elif 'text' in part %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
BLOCKS, TAPS, PATCH_PIXELS, WINDOW_PIXELS = 6, (1, 2), 8, 48  # a window takes 3 x 3 image tokens
VISION_SHAPE = {"depth": BLOCKS, "num_heads": 4, "patch_size": PATCH_PIXELS, "initializer_range": 0.1}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
TINY_VISION: dict[str, TinyVision] = {
    "qwen3_vl": TinyVision(
        tokens.CHAT_TEMPLATE, {"rope_parameters": {**MROPE, "mrope_interleaved": True}, "head_dim": 16},
        {"hidden_size": 64, "intermediate_size": 128, "out_hidden_size": 64, "num_position_embeddings": 64,
         "deepstack_visual_indexes": list(TAPS)}),
    "qwen2_5_vl": TinyVision(
        WITH_SYSTEM, {"rope_parameters": MROPE},
        {"hidden_size": 64, "intermediate_size": 128, "out_hidden_size": 64, "window_size": WINDOW_PIXELS,
         "fullatt_block_indexes": [2, 5]}),
    "qwen2_vl": TinyVision(
        WITH_SYSTEM, {"rope_parameters": MROPE}, {"embed_dim": 64, "hidden_size": 64, "mlp_ratio": 2}),
}  # fmt: skip
TINY_VISION_EXPERTS: dict[str, TinyVision] = {
    "qwen3_vl_moe": TinyVision(
        tokens.CHAT_TEMPLATE,
        {**MIXTURE, "rope_parameters": {**MROPE, "mrope_interleaved": True}, "head_dim": 16, "mlp_only_layers": [1]},
        TINY_VISION["qwen3_vl"].vision),
}  # fmt: skip
TINY_SEEING = {**TINY_VISION, **TINY_VISION_EXPERTS}
VISION_DEPTHS = ((2, 0), (0, 3), (1, 2), (LAYERS, BLOCKS), (0, BLOCKS), (3, 1), (1, 0))
SIZES = ((64, 64), (80, 48), (48, 96), (32, 32))  # of pictures, in pixels: windows are whole, partial and single


def tiny_vision_config(family: str, **text: Any) -> Any:
    """Make the configuration of a tiny model that takes pictures, for the miniature's tokenizer."""
    from transformers import AutoConfig, AutoTokenizer

    tokenizer, tiny = AutoTokenizer.from_pretrained(BASE_DIRECTORY), TINY_SEEING[family]
    names = {"image_token_id": tokens.IMAGE_PAD, "video_token_id": tokens.VIDEO_PAD,
             "vision_start_token_id": tokens.VISION_START, "vision_end_token_id": tokens.VISION_END}  # fmt: skip
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    return AutoConfig.for_model(
        family,
        text_config={**SHAPE, **tiny.text, **ends, "vocab_size": len(tokenizer), "tie_word_embeddings": True, **text},
        vision_config={**VISION_SHAPE, **tiny.vision},
        tie_word_embeddings=True,
        **{key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()},
    )


def write_vision_base(family: str, directory: Path) -> Path:
    """Save a tiny base that takes pictures of any size: weights, tokenizer and image processor."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(BASE_DIRECTORY)
    tokenizer.chat_template = TINY_SEEING[family].template
    tokenizer.save_pretrained(directory)
    processor = image_processor()
    processor.size = {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}
    processor.save_pretrained(directory)
    torch.manual_seed(11)
    getattr(transformers, FAMILIES[family].model_class)(tiny_vision_config(family)).save_pretrained(directory)
    return directory


def picture_sources(directory: Path, base: Path, miniature: Sources) -> Sources:
    """Write the miniature's few rows with pictures of different sizes, and the sources of trials on them."""
    found, written = {}, 0
    for name in ("train", "validation", "ood"):
        source, lines = getattr(miniature, name).path, []
        for line in source.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            for picture in row.get("images", ()):
                (directory / picture).parent.mkdir(parents=True, exist_ok=True)
                with Image.open(source.parent / picture) as image:
                    image.resize(SIZES[written % len(SIZES)]).save(directory / picture)
                written += 1
            lines.append(json.dumps(row) + "\n")
        path = directory / f"{name}.jsonl"
        path.write_text("".join(lines), encoding="utf-8")
        found[name] = path
    return hashed_sources(base, found)


def tiny_config(family: str, vocabulary: int = 512) -> Any:
    """Make the configuration of a tiny model, as transformers writes it to `config.json`."""
    from transformers import AutoConfig

    tiny = TINY_TEXT[family]
    own = {"vocab_size": vocabulary, "eos_token_id": 1, "bos_token_id": None, "pad_token_id": None}
    if tiny.decoder is None:
        return AutoConfig.for_model(family, **{**SHAPE, **tiny.config, **own})
    text = {"model_type": tiny.decoder, **SHAPE, **tiny.config["text_config"], **own}
    return AutoConfig.for_model(family, **{**tiny.config, "text_config": text})


def write_base(family: str, directory: Path) -> Path:
    """Save a tiny base, weights and tokenizer, as a model that was downloaded would lie there."""
    import torch
    import transformers

    tiny = TINY_TEXT[family]
    tokenizer = transformers.AutoTokenizer.from_pretrained(BASE_DIRECTORY)
    own = [token for token in (tiny.end, tiny.eos, tiny.bos, tiny.pad) if token]
    tokenizer.add_special_tokens({"extra_special_tokens": own}, replace_extra_special_tokens=False)
    tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token = tiny.eos, tiny.bos, tiny.pad
    tokenizer.chat_template = tiny.template
    tokenizer.save_pretrained(directory)
    torch.manual_seed(11)
    config = tiny_config(family, len(tokenizer))
    text = config.get_text_config()
    text.eos_token_id, text.bos_token_id = tokenizer.eos_token_id, tokenizer.bos_token_id
    text.pad_token_id = tokenizer.pad_token_id
    getattr(transformers, FAMILIES[family].model_class)(config).save_pretrained(directory)
    return directory


def text_sources(directory: Path, base: Path) -> Sources:
    """Write a few rows of text alone, long enough to leave a window, and the sources of trials on them."""
    words = ("two", "three", "five", "red", "blue", "green", "lamp", "screw", "cable", "left", "right", "soft")
    asked = [f"What is {first} plus {second}, said in one word, please?" for first in words for second in words[:2]]
    rows = [
        {"id": f"r{number}", "messages": [{"role": "user", "content": text},
                                          {"role": "assistant", "content": words[number % 12] + " it is."}]}
        for number, text in enumerate(asked)
    ]  # fmt: skip
    output = [
        {"id": f"t{n}", "kind": "text", "prompt": f"Say {word}.", "expect": word} for n, word in enumerate(words[:3])
    ]
    found = {}
    for name, lines in {"train": rows[:12], "validation": rows[12:15], "ood": output}.items():
        path = directory / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        found[name] = path
    return hashed_sources(base, found)


def vision_arms(sources: Sources, depths: Sequence[tuple[int, int]] = VISION_DEPTHS, **changes: Any) -> list[TrialSpec]:
    """Make a trial for each of (language layers, vision blocks), with settings that act in a pass."""
    return [
        sources.spec(**{
            "name": f"L{language}-V{vision}", "placement": Placement(language=language, vision=vision),
            "rank": (4, 8, 1)[number % 3], "alpha": (8.0, 32.0)[number % 2], "dropout": (0.1, 0.0)[number % 2],
            "rslora": number % 2 == 1, "seed": number % 3, **changes,
        })
        for number, (language, vision) in enumerate(depths)
    ]  # fmt: skip
