"""Writes a trial as a configuration of axolotl, ms-swift or LLaMA-Factory.

Each tool has one function from the trial to its keys. Settings that a tool cannot express are listed in comments at the
top of the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainables.errors import UserError, nearest
from trainables.export.expressions import axolotl_targets, has_experts, swift_targets
from trainables.export.rows import axolotl_entry, llamafactory_entry, swift_file, written_rows
from trainables.io.files import read_json
from trainables.limits import EXPERTS
from trainables.model.quantization import QUANTIZATION_TABLE
from trainables.record import Record
from trainables.schedule import STABLE_DECAY_SHARE, warmup_steps
from trainables.spec import ADAM_BETA2, TrialSpec

TABLE = "dataset_info.json"
# what axolotl needs to read rows with pictures
AXOLOTL_PICTURES = {"processor_type": "AutoProcessor", "skip_prepare_dataset": True, "remove_unused_columns": False,
                    "sample_packing": False}  # fmt: skip


@dataclass(frozen=True)
class ExportedTrial:
    """The trial to export, with the full names of the modules it adapts.

    `by_name` writes a list, because PEFT reads an expression otherwise on a base with experts (`expressions.py`).
    """

    spec: TrialSpec
    modules: tuple[str, ...]
    by_name: bool = False

    @property
    def on_experts(self) -> bool:
        """True when the names are parameters of experts instead of modules."""
        return EXPERTS in self.spec.target_modules

    @property
    def vision_prefix(self) -> str:
        """Return the common prefix of the vision blocks' names, empty if none is adapted."""
        count = self.spec.placement.vision
        return self.modules[-1].rsplit(".blocks.", 1)[0] + ".blocks" if count else ""


@dataclass
class ToolConfig:
    """Keys of a tool's configuration, and one sentence for each setting they cannot express."""

    keys: dict[str, Any]
    not_expressed: list[str] = field(default_factory=list)


def check_tool(tool: str) -> None:
    """Refuse an unknown tool.

    Raises:
        UserError: names the known tools.
    """
    if tool not in TOOLS:
        raise UserError(f"the tool must be one of {', '.join(TOOLS)}, but got `{tool}`", nearest(tool, TOOLS))


def export_trial(trial: ExportedTrial, tool: str) -> str:
    """Return the configuration of `tool` that trains this trial, as YAML.

    Raises:
        UserError: the tool is unknown, or the trial trains nothing.
    """
    import yaml

    check_tool(tool)
    if trial.spec.placement.is_baseline:
        raise UserError(f"only a trial that trains can be exported, but {trial.spec.name} is the baseline")
    if trial.on_experts and tool != "axolotl":
        raise UserError(f"LoRA on experts can be exported for axolotl, but got {tool}", "--as axolotl")
    written = TOOLS[tool](trial)
    not_expressed = [*written.not_expressed, *_never_expressed(trial.spec)]
    head = [f"Footprint's trial {trial.spec.name} ({trial.spec.trial_id}) for {tool}.",
            *(["This configuration does not express:"] if not_expressed else []),
            *(f"- {one}" for one in not_expressed)]  # fmt: skip
    text = yaml.safe_dump(written.keys, sort_keys=False, allow_unicode=True, width=10**6)
    return "".join(f"# {line}\n" for line in head) + text


def export_record(record: Record, tool: str) -> str:
    """Return the configuration of `tool` that trains the trial of a record, as YAML.

    Raises:
        UserError: the directory is not the record of a started trial, or the tool is unknown.
    """
    placement = record.directory / "placement.json"
    if not (record.directory / "spec.json").is_file() or not placement.is_file():
        raise UserError(f"{record.directory} must be the directory of a started trial, but has no spec.json or "
                        "placement.json", "name a directory below <storage>/<experiment>/trials")  # fmt: skip
    spec = record.spec()
    modules = tuple(name for tower in read_json(placement).values() for name in tower["modules"])
    return export_trial(ExportedTrial(spec, modules, has_experts(spec.base.path)), tool)


# ---------------------------------------------------------------------------------------------- axolotl
def _axolotl(trial: ExportedTrial) -> ToolConfig:
    spec = trial.spec
    facts = QUANTIZATION_TABLE[spec.quantization]
    bits, kind, double = facts.bits, facts.kind, facts.double_quantization
    schedule, not_expressed = _axolotl_schedule(spec)
    rows = [written_rows(one.path) for one in (spec.train, spec.validation)]
    train, validation = map(axolotl_entry, rows)
    not_expressed += dict.fromkeys((*train[1], *validation[1]))
    keys: dict[str, Any] = {"base_model": str(spec.base.path)}
    keys |= {4: {"load_in_4bit": True}, 8: {"load_in_8bit": True}, 0: {}}[bits]
    if bits == 4 and (kind, double) != ("nf4", True):
        keys["bnb_config_kwargs"] = {"bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": double}
    keys |= {
        "adapter": "qlora" if bits == 4 else "lora",
        **({"lora_model_dir": str(spec.init_from.path)} if spec.init_from else {}),
        "lora_r": spec.rank, "lora_alpha": _whole_alpha(spec), "lora_dropout": spec.dropout,
        "peft_use_rslora": spec.rslora, **axolotl_targets(trial.modules, trial.by_name, trial.on_experts),
        "datasets": [train[0]], "test_datasets": [validation[0]], "val_set_size": 0.0,
        "sequence_len": spec.max_tokens, "micro_batch_size": spec.batch_rows,
        "gradient_accumulation_steps": spec.accumulation_steps, "max_steps": spec.steps,
        "optimizer": "adamw_torch", "learning_rate": spec.learning_rate,
        **({"adam_beta2": spec.adam_beta2} if spec.adam_beta2 != ADAM_BETA2 else {}),
    }  # fmt: skip
    if trial.vision_prefix or rows[0].pictured:
        keys |= AXOLOTL_PICTURES
        not_expressed.append("chat_template: set that of your base, for example qwen2_vl for Qwen2-VL to Qwen3-VL")
    if trial.vision_prefix and spec.vision_learning_rate != spec.learning_rate:
        keys["lr_groups"] = [{"name": "vision", "modules": [trial.vision_prefix], "lr": spec.vision_learning_rate}]
    keys |= {
        **schedule, "weight_decay": spec.weight_decay, "max_grad_norm": spec.max_gradient_norm,
        "eval_steps": spec.eval_every_steps, "seed": spec.seed,
        "bf16": {"auto": "auto", "bfloat16": True}.get(spec.compute_dtype, False),
        "fp16": spec.compute_dtype == "float16", "output_dir": f"outputs/{spec.name}",
    }  # fmt: skip
    if warmup_steps(spec.steps, spec.warmup_ratio) == 1:
        not_expressed.append("warm-up of 1 step: axolotl turns it into 2")
    if spec.data_seed != spec.seed:
        not_expressed.append(f"data_seed {spec.data_seed}: axolotl shuffles rows by the seed")
    return ToolConfig(keys, not_expressed)


def _axolotl_schedule(spec: TrialSpec) -> tuple[dict[str, Any], list[str]]:
    keys, not_expressed = hf_schedule(spec)
    keys["lr_scheduler"] = keys.pop("lr_scheduler_type")
    if keys["lr_scheduler"] == "cosine_with_min_lr":
        del keys["lr_scheduler_kwargs"]
        keys |= {"lr_scheduler": "cosine", "cosine_min_lr_ratio": spec.min_rate_ratio}
    return keys, not_expressed


# ---------------------------------------------------------------------------------------------- ms-swift
def _swift(trial: ExportedTrial) -> ToolConfig:
    spec = trial.spec
    facts = QUANTIZATION_TABLE[spec.quantization]
    bits, kind, double = facts.bits, facts.kind, facts.double_quantization
    train, validation = (swift_file(written_rows(one.path)) for one in (spec.train, spec.validation))
    keys: dict[str, Any] = {"model": str(spec.base.path), "use_hf": True}
    keys |= {"torch_dtype": spec.compute_dtype} if spec.compute_dtype != "auto" else {}
    # ms-swift computes float32 weights in float16 unless told otherwise
    keys |= {"fp16": False, "bf16": False} if spec.compute_dtype == "float32" else {}
    keys |= {"quant_method": "bnb", "quant_bits": bits} if bits else {}
    keys |= {"bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": double} if bits == 4 else {}
    keys |= {"bnb_4bit_compute_dtype": spec.compute_dtype} if bits == 4 and spec.compute_dtype != "auto" else {}
    keys |= {
        **({"adapters": [str(spec.init_from.path)]} if spec.init_from else {}),
        "lora_rank": spec.rank, "lora_alpha": _whole_alpha(spec), "lora_dropout": spec.dropout,
        "use_rslora": spec.rslora, **swift_targets(trial.modules, trial.by_name),
        "freeze_llm": spec.placement.language == 0, "freeze_vit": spec.placement.vision == 0, "freeze_aligner": True,
        "dataset": [train[0]], "val_dataset": [validation[0]], "split_dataset_ratio": 0.0,
        "max_length": spec.max_tokens, **_trainer(spec),
    }  # fmt: skip
    if trial.vision_prefix:
        keys["vit_lr"] = spec.vision_learning_rate
    schedule, not_expressed = hf_schedule(spec)
    not_expressed += dict.fromkeys((*train[1], *validation[1]))
    return ToolConfig({**keys, **schedule, "data_seed": spec.data_seed}, not_expressed)


# ---------------------------------------------------------------------------------------------- LLaMA-Factory
def _llamafactory(trial: ExportedTrial) -> ToolConfig:
    spec = trial.spec
    facts = QUANTIZATION_TABLE[spec.quantization]
    bits, kind, double = facts.bits, facts.kind, facts.double_quantization
    keys: dict[str, Any] = {"model_name_or_path": str(spec.base.path)}
    keys |= {"quantization_method": "bnb", "quantization_bit": bits} if bits else {}
    keys |= {"quantization_type": kind, "double_quantization": double} if bits == 4 else {}
    directory, names, not_expressed = _llamafactory_rows(trial)
    schedule, lost = hf_schedule(spec)
    keys |= {
        "stage": "sft", "do_train": True, "finetuning_type": "lora",
        **({"adapter_name_or_path": str(spec.init_from.path)} if spec.init_from else {}),
        "lora_rank": spec.rank, "lora_alpha": _whole_alpha(spec), "lora_dropout": spec.dropout,
        "use_rslora": spec.rslora, "lora_target": ",".join(trial.modules),
        "freeze_language_model": spec.placement.language == 0, "freeze_vision_tower": spec.placement.vision == 0,
        "freeze_multi_modal_projector": True,
        "dataset_dir": directory, "dataset": names[0], "eval_dataset": names[1], "cutoff_len": spec.max_tokens,
        **_trainer(spec), **schedule, "data_seed": spec.data_seed, "bf16": spec.compute_dtype in {"auto", "bfloat16"},
        "fp16": spec.compute_dtype == "float16",
    }  # fmt: skip
    not_expressed += [*lost, "template: set the template of your base, for example qwen3_vl_nothink"]
    if spec.compute_dtype == "auto":
        not_expressed.append("compute_dtype auto: it is bfloat16 on a GPU, so bf16 is set here")
    if trial.vision_prefix and spec.vision_learning_rate != spec.learning_rate:
        if spec.placement.language:
            not_expressed.append(
                f"vision_learning_rate {spec.vision_learning_rate:g}: LLaMA-Factory has one rate for both towers"
            )
        else:
            keys["learning_rate"] = spec.vision_learning_rate  # only the vision tower is trained
    return ToolConfig(keys, not_expressed)


def _llamafactory_rows(trial: ExportedTrial) -> tuple[str, list[str], list[str]]:
    paths = (trial.spec.train.path, trial.spec.validation.path)
    entries = [str(path).rpartition(f"{TABLE}:") for path in paths]
    if all(before for before, _, _ in entries) and entries[0][0] == entries[1][0]:
        return entries[0][0].rstrip("/") or ".", [name for _, _, name in entries], []
    table, not_expressed = {}, []
    for name, path in zip(("train", "validation"), paths, strict=True):
        table[name], not_read = llamafactory_entry(written_rows(path))
        not_expressed += not_read
    return "data", list(table), [f"data/{TABLE} must hold {json.dumps(table)}", *dict.fromkeys(not_expressed)]


# ---------------------------------------------------------------------------------------------- shared
def _trainer(spec: TrialSpec) -> dict[str, Any]:
    """Return the arguments of transformers' Trainer that ms-swift and LLaMA-Factory share."""
    return {
        "per_device_train_batch_size": spec.batch_rows,
        "gradient_accumulation_steps": spec.accumulation_steps,
        "max_steps": spec.steps,
        "optim": "adamw_torch",
        "learning_rate": spec.learning_rate,
        "weight_decay": spec.weight_decay,
        "adam_beta2": spec.adam_beta2,
        "max_grad_norm": spec.max_gradient_norm,
        "eval_strategy": "steps",
        "eval_steps": spec.eval_every_steps,
        "seed": spec.seed,
        "output_dir": f"outputs/{spec.name}",
    }


def _never_expressed(spec: TrialSpec) -> list[str]:
    not_expressed = [f"--ood {spec.ood.path}: out-of-distribution rows, which only Footprint evaluates"]
    if spec.replay:
        not_expressed.append(f"--mix {spec.replay.path}:{spec.replay_ratio:g}: replay rows are not mixed in")
    if spec.alpha != _whole_alpha(spec):
        not_expressed.append(f"alpha {spec.alpha:g}: the tool takes whole numbers, so {_whole_alpha(spec)} is written")
    if spec.batch_warmup_ratio:
        not_expressed.append(f"batch_warmup_ratio {spec.batch_warmup_ratio:g}: every step has the full number of rows")
    if spec.packed_tokens:
        not_expressed.append(
            "packed_tokens: packing is off, because in the tool a packed sequence counts as one row of the batch"
        )
    if spec.optimizer == "resumed":
        not_expressed.append("optimizer resumed: the optimizer state is not loaded")
    if spec.continuation == "extended":
        not_expressed.append("continuation extended: the tool expects the adapter to have exactly these modules")
    if spec.earlier:
        not_expressed.append(f"earlier: the rows of {len(spec.earlier)} earlier stages are not evaluated")
    return not_expressed


def _whole_alpha(spec: TrialSpec) -> int:
    return max(1, round(spec.alpha))


TOOLS: dict[str, Callable[[ExportedTrial], ToolConfig]] = {
    "axolotl": _axolotl,
    "ms-swift": _swift,
    "llamafactory": _llamafactory,
}


def hf_schedule(spec: TrialSpec) -> tuple[dict[str, Any], list[str]]:
    """Return the keys of this schedule for transformers' Trainer, and a sentence for each part they cannot express."""
    warmup, floor = warmup_steps(spec.steps, spec.warmup_ratio), spec.min_rate_ratio
    keys: dict[str, Any] = {"lr_scheduler_type": spec.schedule}
    not_expressed: list[str] = []
    if spec.schedule == "cosine" and floor:
        keys = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": floor}}
    elif spec.schedule == "stable":
        decay = round(STABLE_DECAY_SHARE * (spec.steps - warmup))
        decaying = {"num_decay_steps": decay, "decay_type": "linear", "min_lr_ratio": floor}
        keys = {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": decaying}
    elif spec.schedule == "constant":
        keys = {"lr_scheduler_type": "constant_with_warmup"}
    elif spec.schedule == "linear" and floor:
        not_expressed.append(f"min_rate_ratio {floor:g}: `linear` decays to 0 in the tool")
    return {**keys, "warmup_steps": warmup}, not_expressed
