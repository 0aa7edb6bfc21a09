"""The model sizes that are timed: the miniature, a deep and narrow one, and Qwen3-VL-4B's sizes with random weights.

A shape provides the rows, settings and base that a process needs to run its trials. All bases but the 4B's are loaded
by `load_base`, as in a study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import rows
from benchmarks.families import NAMES
from benchmarks.rows import Amounts
from trainables.data.duplicates import digest_of
from trainables.errors import UserError
from trainables.mini import BASE_DIRECTORY, defaults
from trainables.spec import Source, TrialSpec

if TYPE_CHECKING:
    import torch

    from trainables.model.base import Base


DEEP_TAPS = (5, 11, 17)
PICTURE_4B = (1024, 768)  # pixels; 768 image tokens of 32 x 32


@dataclass(frozen=True)
class Shape:
    """One size of model with its rows and settings.

    A trial trains `steps` steps with one eval after the last; training is timed `repeats` times, evals only for the
    families in `whole`. `peak_flops` are the device's peak FLOPs per second (measured on a large bf16 product), None
    where they are not known.
    """

    name: str
    title: str
    settings: Mapping[str, Any]
    amounts: Amounts
    steps: int
    repeats: int
    prepare: Callable[[Path], None]
    load: Callable[[Path, TrialSpec], Base]
    needs_cuda: bool = False
    whole: tuple[str, ...] = NAMES
    peak_flops: float | None = None


def prepared(shape: Shape, directory: Path, steps: int) -> dict[str, Any]:
    """Write the shape's base and rows below `directory`; returns the settings of its trials.

    Raises:
        UserError: the shape needs a CUDA device and there is none.
    """
    if shape.needs_cuda:
        _require_cuda(shape)
    base = directory / "base"
    base.mkdir(parents=True)
    shape.prepare(base)
    return {
        **defaults.SETTINGS,
        **shape.settings,
        **rows.write(directory, shape.amounts),
        "base": Source(path=base, sha256=digest_of(base / "config.json")),
        "steps": steps,
        "eval_every_steps": steps,
    }


# ------------------------------------------------------------------ bases on disk
def _copy_miniature(directory: Path) -> None:
    import shutil

    shutil.copytree(BASE_DIRECTORY, directory, dirs_exist_ok=True)


def _save_deep(directory: Path) -> None:
    import torch
    from transformers import Qwen3VLForConditionalGeneration, logging

    logging.disable_progress_bar()
    config, tokenizer = _miniature_config()
    deep = _resized(config, {"num_hidden_layers": 36}, {"depth": 24, "deepstack_visual_indexes": list(DEEP_TAPS)})
    torch.manual_seed(0)
    _save(directory, Qwen3VLForConditionalGeneration(deep), tokenizer, _miniature_processor())


def _save_4b(directory: Path) -> None:
    config, tokenizer = _miniature_config()
    processor = _miniature_processor()
    area = PICTURE_4B[0] * PICTURE_4B[1]
    processor.patch_size = 16
    processor.size = {"shortest_edge": area, "longest_edge": area}
    _save(directory, configuration_4b(config), tokenizer, processor)


def configuration_4b(miniature: Any) -> Any:
    """Return Qwen3-VL-4B's sizes with the miniature's special tokens.

    Source: config.json of Qwen/Qwen3-VL-4B-Instruct.
    """
    text = {
        "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 9728, "vocab_size": 151_936, "max_position_embeddings": 262_144,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20],
                            "mrope_interleaved": True},
    }  # fmt: skip
    vision = {
        "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 16,
        "spatial_merge_size": 2, "out_hidden_size": 2560, "num_position_embeddings": 2304,
        "deepstack_visual_indexes": list(DEEP_TAPS),
    }  # fmt: skip
    return _resized(miniature, text, vision)


def _resized(config: Any, text: Mapping[str, Any], vision: Mapping[str, Any]) -> Any:
    # transformers derives `layer_types` from the number of layers
    own = {key: value for key, value in config.text_config.to_dict().items() if key != "layer_types"}
    whole = {"text_config": own | dict(text), "vision_config": config.vision_config.to_dict() | dict(vision)}
    return type(config)(**(config.to_dict() | whole))


def _miniature_config() -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoTokenizer

    return AutoConfig.from_pretrained(BASE_DIRECTORY), AutoTokenizer.from_pretrained(BASE_DIRECTORY)


def _miniature_processor() -> Any:
    from transformers import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil.from_pretrained(BASE_DIRECTORY)


def _save(directory: Path, *parts: Any) -> None:
    for part in parts:
        part.save_pretrained(directory)


# ------------------------------------------------------------------ bases in memory
def _load_on_cpu(_: Path, spec: TrialSpec) -> Base:
    import torch

    from trainables.model.base import load_base

    return load_base(spec.base.path, spec.quantization, spec.compute_dtype, torch.device("cpu"))


def _load_4b(directory: Path, _: TrialSpec) -> Base:
    import torch

    return random_base(directory, torch.device("cuda", 0), torch.bfloat16)


def random_base(directory: Path, device: torch.device, dtype: torch.dtype) -> Base:
    """Build a base of random NF4 weights from the configuration, tokenizer and image processor in `directory`."""
    from transformers import AutoConfig, AutoTokenizer, Qwen2VLImageProcessorPil

    from benchmarks.quantized import random_nf4
    from trainables.model.base import Base
    from trainables.model.checksums import base_megabytes
    from trainables.model.families import FAMILIES
    from trainables.model.quantization import keep_gradients

    config, family = AutoConfig.from_pretrained(directory), FAMILIES["qwen3_vl"]
    model = random_nf4(config, device, dtype)
    keep_gradients(model)
    return Base(
        path=directory, model=model, tokenizer=AutoTokenizer.from_pretrained(directory),
        image_processor=Qwen2VLImageProcessorPil.from_pretrained(directory), family=family,
        towers=family.towers(config.to_dict()), device=device, embedding_rows=config.get_text_config().vocab_size,
        residency="quantized", megabytes=base_megabytes(model),
    )  # fmt: skip


def _require_cuda(shape: Shape) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"shape `{shape.name}` needs a CUDA device, but torch {torch.__version__} sees none",
            "run it on a machine with a GPU and a torch built for it; `--shape all-cpu` needs none",
        )


SHAPES = {
    "mini": Shape(
        name="mini",
        title="The miniature: 8 language layers, 12 vision blocks, NF4, 16 rows a step",
        settings={"quantization": "nf4-double"},
        amounts=Amounts(train=48),
        steps=6,
        repeats=3,
        prepare=_copy_miniature,
        load=_load_on_cpu,
    ),
    "deep": Shape(
        name="deep",
        title="Deep: 36 language layers, 24 vision blocks, the miniature's widths, float32, 4 rows a step",
        settings={"quantization": "none", "batch_rows": 4},
        amounts=Amounts(train=24),
        steps=6,
        repeats=3,
        prepare=_save_deep,
        load=_load_on_cpu,
    ),
    "4b": Shape(
        name="4b",
        title="Qwen3-VL-4B's sizes, random NF4 weights, bfloat16, 2 rows a step",
        settings={"quantization": "nf4-double", "batch_rows": 2},
        amounts=Amounts(train=8, picture=PICTURE_4B, before=119, after=116, answer=127),
        steps=4,
        repeats=2,
        whole=("full", "A1x24"),
        prepare=_save_4b,
        load=_load_4b,
        needs_cuda=True,
        peak_flops=790e12,
    ),
}
