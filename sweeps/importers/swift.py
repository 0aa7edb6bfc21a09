"""Common keys of ms-swift, with the meaning of its parameter reference (versions 3.5 to 4.6).

Keys may be grouped in sections (`model:`, `tuner:`, …), which ms-swift itself does not require.
"""

from __future__ import annotations

from sweeps.importers.no_effect import split_ratio
from sweeps.importers.rules import Accepts, CheckedBy, Ignored, KeyRule, Replaced, Sets, Tool, off
from sweeps.importers.shared import (
    AS_HERE,
    CHECKPOINTS,
    EARLY_STOP,
    EVALUATION,
    MISSING,
    ONE_DEVICE,
    OPTIMIZER,
    PICTURES,
    RECORD,
    REMOTE_CODE,
    REPORTED,
    SPEED,
    STREAMED,
    TRACKING,
    TRAINER,
)
from sweeps.importers.templates import template_of
from sweeps.importers.values import (
    above_zero,
    boolean,
    dropout,
    dtype_name,
    expression,
    one_of,
    one_text,
    rate,
    scale,
    system_turn,
    targets,
    text,
    whole,
)
from trainables.model.quantization import FOUR_BIT_KINDS

METHOD = one_of({"lora": "lora"}, "only LoRA is supported")
DTYPES = one_of({"bfloat16": "bfloat16", "float16": "float16", "float32": "float32", "auto": "auto"})
ALL_TURNS = "all assistant turns are supervised"
EMPTY_THOUGHTS = ("ignore_empty_think", "default+ignore_empty_think")
NO_EMPTY_THOUGHTS = "an empty think block that the template adds is not supervised here either"
ANOTHER_LOSS = "another loss gives another result"

TABLE: dict[str, KeyRule] = {
    **TRAINER,
    # base and quantization
    "model": Sets("base", text, needed=True),
    "torch_dtype": Sets("dtype", DTYPES),
    "quant_method": Accepts({"bnb": AS_HERE}, "only bitsandbytes is supported", "quant_method: bnb"),
    "quant_bits": Sets("bits", whole),
    "bnb_4bit_quant_type": Sets("four_bit_kind", one_of({kind: kind for kind in FOUR_BIT_KINDS})),
    "bnb_4bit_use_double_quant": Sets("double_quantization", boolean),
    "bnb_4bit_compute_dtype": Sets("four_bit_dtype", dtype_name),
    "trust_remote_code": REMOTE_CODE,
    "custom_register_path": Accepts({}, "code is not loaded from files"),
    "external_plugins": Accepts({}, "code is not loaded from files"),
    "task_type": Accepts({"causal_lm": AS_HERE}, "only causal language models are supported"),
    **dict.fromkeys(("num_labels", "problem_type"), Accepts({}, "only causal language models are supported")),
    "label_names": Ignored("the labels are those of the answers"),
    "ENV": Accepts({}, "variables can change how pictures are read", "set what they change in the base's files"),
    "model_revision": Accepts({}, "a base is a directory or the newest revision on the hub", "download it"),
    "rope_scaling": Accepts({}, "the base is loaded unchanged"),
    "new_special_tokens": Accepts({}, "the base is loaded unchanged"),
    **dict.fromkeys(("model_type", "use_hf", "hub_token", "check_model", "local_repo_path", "load_args"),
                    Ignored("the family in the base's config.json sets the classes")),
    # what is adapted
    "train_type": Sets("method", METHOD),
    "tuner_type": Sets("method", METHOD),
    "tuner_backend": Accepts(
        {"peft": AS_HERE, "unsloth": "faster kernels for the same adapter of PEFT"}, "only PEFT's adapters are "
        "supported",
    ),
    "lora_rank": Sets("rank", above_zero),
    "lora_alpha": Sets("alpha", scale),
    "lora_dropout": Sets("dropout", dropout),
    "use_rslora": Sets("rslora", boolean),
    "target_modules": Sets("targets", targets),
    "target_regex": Sets("expression", expression),
    "freeze_llm": Sets("freeze_language", boolean),
    "freeze_vit": Sets("freeze_vision", boolean),
    "freeze_aligner": Accepts(
        {True: "the aligner stays frozen"}, "the aligner is never adapted", "freeze_aligner: true",
    ),
    "adapters": Sets("init_from", one_text),
    "use_dora": off("DoRA is another method"),
    "lora_bias": Accepts({"none": AS_HERE}, "biases are not trained"),
    "init_weights": Accepts({"true": AS_HERE, True: AS_HERE}, "adapters have PEFT's default initialization"),
    **dict.fromkeys(("lora_ga_batch_size", "lora_ga_iters", "lora_ga_max_length", "lora_ga_direction", "lora_ga_scale",
                     "lora_ga_stable_gamma"), Ignored("it is for init_weights: lora-ga")),
    "lora_dtype": Accepts({"float32": AS_HERE}, "adapters are trained in float32", "lora_dtype: float32"),
    **dict.fromkeys(("modules_to_save", "target_parameters", "trainable_parameters", "freeze_parameters"),
                    Accepts({}, "only LoRA on linear layers is trained", "remove the key")),
    "lorap_lr_ratio": Accepts({}, "each tower has one rate", "remove the key"),
    # data
    "dataset": Sets("train", one_text, needed=True),
    "val_dataset": Sets("validation", one_text, needed=True),
    "split_dataset_ratio": Replaced("validation", CheckedBy(split_ratio)),
    "max_length": Sets("max_tokens", above_zero),
    "packing": Sets("packing", boolean),
    "packing_length": Sets("packing_length", above_zero),
    "template": template_of("ms-swift"),
    "system": Sets("system", system_turn),
    "loss_scale": Accepts({"default": ALL_TURNS, **dict.fromkeys(EMPTY_THOUGHTS, NO_EMPTY_THOUGHTS)}, ANOTHER_LOSS),
    "truncation_strategy": Accepts(
        {"delete": "rows that are too long are reported before the run", "right": "rows that are too long are reported "
         "before the run"}, "rows are not truncated", "truncation_strategy: delete",
    ),
    "dataset_shuffle": Accepts({True: AS_HERE}, "rows are shuffled by the data seed"),
    "train_dataloader_shuffle": Accepts({True: AS_HERE}, "rows are shuffled by the data seed"),
    "streaming": STREAMED,
    "max_pixels": PICTURES,
    "agent_template": Ignored("tool calls are not supported: rows with them are refused"),
    "loss_type": Accepts(dict.fromkeys(("cross_entropy", "ce"), AS_HERE), ANOTHER_LOSS, "remove the key"),
    "response_prefix": Accepts({}, "only the base's own chat template is used", "write it into the rows"),
    "cached_val_dataset": Replaced("validation", Accepts({}, "rows are read from `val_dataset`")),
    "cached_dataset": Replaced("train", Accepts({}, "rows are read from `dataset`", "remove the key")),
    "custom_dataset_info": Replaced("train", Accepts({}, "rows are read from files", "name the file in `dataset`")),
    "interleave_prob": Replaced("train", Accepts({}, "there is one file of rows", "remove the key")),
    "callbacks": Accepts({}, "code is not loaded from files", "remove the key"),
    "columns": Replaced("train", Accepts({}, "columns must have their usual names", "rename them in the rows")),
    "enable_dft_loss": off(ANOTHER_LOSS),
    "model_kwargs": Accepts({}, "the base is loaded unchanged"),
    "use_chat_template": Accepts({True: AS_HERE}, "rows are rendered with the base's own chat template"),
    # the run
    "vit_lr": Sets("vision_learning_rate", rate),
    "aligner_lr": Ignored("the aligner stays frozen"),
    "optimizer": OPTIMIZER,
    "rlhf_type": Accepts({}, "only supervised fine-tuning is supported"),
    "use_galore": off("another optimizer gives another result"),
    "lisa_activated_layers": off("LISA is another method"),
    "max_epochs": Accepts({}, "a run ends after its steps", "write max_steps for as many epochs"),
    "router_aux_loss_coef": off(ANOTHER_LOSS),
    "early_stop_interval": EARLY_STOP,
    **dict.fromkeys(("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "num_beams", "stream",
                     "eval_use_evalscope", "eval_limit", "eval_dataset", "eval_dataset_args", "eval_generation_config"),
                    Ignored(EVALUATION)),
    **dict.fromkeys(("acc_strategy", "acc_steps", "enable_channel_loss"), Ignored(REPORTED)),
    **dict.fromkeys(("attn_impl", "padding_free", "vit_gradient_checkpointing", "dataset_num_proc", "device_map",
                     "load_from_cache_file", "lazy_tokenize", "packing_cache", "padding_side", "strict",
                     "val_dataset_shuffle", "bnb_4bit_quant_storage", "use_logits_to_keep",
                     "packing_num_proc", "shuffle_buffer_size"), Ignored(SPEED)),
    **dict.fromkeys(("sequence_parallel_size", "use_ray", "device_groups"), Ignored(ONE_DEVICE)),
    **dict.fromkeys(("create_checkpoint_symlink", "add_version", "resume_only_model"), Ignored(CHECKPOINTS)),
    **dict.fromkeys(("model_author", "model_name"), Ignored(RECORD)),
    **TRACKING,
}  # fmt: skip

SWIFT = Tool(
    name="ms-swift",
    signs=("model", "train_type", "tuner_type", "tuner", "vit_lr", "target_regex"),
    table=TABLE,
    defaults={
        "method": "lora", "dtype": "auto", "four_bit_kind": "nf4", "double_quantization": True, "rank": 8,
        "alpha": 32.0, "dropout": 0.05, "rslora": False, "all_linear": True, "freeze_language": False,
        "freeze_vision": True, "batch_rows": 1, "fill_rows": 16, "epochs": 3.0, "learning_rate": 1e-4,
        "schedule": "cosine", "warmup_ratio": 0.0, "weight_decay": 0.1, "max_gradient_norm": 1.0, "seed": 42,
        "data_seed": 42, "eval_strategy": "steps", "eval_steps": 500, "adam_beta2": 0.95,
    },
    required={
        "base": "`model` must name the base",
        "train": "`dataset` must name the training rows",
        "validation": "`val_dataset` must name the validation rows",
    },
    missing=MISSING,
    sections=("model", "data", "template", "tuner", "training", "quantization", "train"),
)  # fmt: skip
