"""axolotl's keys, read from its own schema (`axolotl.utils.schemas`, version 0.13)."""

from __future__ import annotations

from sweeps.importers.rules import Accepts, Entries, Ignored, Rule, Section, Sets, Tool, off
from sweeps.importers.shared import (
    CHECKPOINTS,
    EVALUATION,
    HUB,
    ONE_DEVICE,
    OPTIMIZER,
    RECORD,
    REMOTE_CODE,
    REPORTED,
    SCHEDULE,
    SCHEDULE_SETTINGS,
    SPEED,
    TEMPLATE,
    TRACKING,
)
from sweeps.importers.values import (
    above_zero,
    at_least_zero,
    boolean,
    clip_norm,
    last_layers,
    number,
    one_of,
    targets,
    text,
    whole,
)

ROW_FORMATS = "how rows are written is read from the rows themselves"
HUB_DATA = "rows are read from local files"

DATASET: dict[str, Rule] = {
    "path": Sets("path", text, needed=True),
    "type": Accepts(
        dict.fromkeys(("completion", "chat_template", "sharegpt", "alpaca"), ROW_FORMATS),
        "other prompts are other rows",
        "write the rows as `messages`, `text` or `prompt` and `response`",
    ),
    "field": Accepts({"text": ROW_FORMATS}, "a completion stands in `text`", "rename that field of the rows to text"),
    "field_messages": Accepts(
        dict.fromkeys(("messages", "conversations"), ROW_FORMATS), "turns stand in `messages` or `conversations`"
    ),
    "ds_type": Accepts({"json": "rows are JSONL"}, "rows are JSONL", "write the rows as JSONL"),
    "split": Accepts({"train": "a local file has this one split"}, HUB_DATA, "name the file of that split"),
    "chat_template": TEMPLATE,
    "roles_to_train": Accepts({}, "all assistant turns are supervised, and no other", "remove the key"),
    "train_on_eos": Accepts({"turn": "as here"}, "the end of every assistant turn is supervised"),
    "message_property_mappings": Accepts({}, "turns are `role` and `content`, or `from` and `value`"),
    "trust_remote_code": REMOTE_CODE,
    **dict.fromkeys(("name", "revision", "data_files"), Accepts({}, HUB_DATA, "name the file in `path`")),
    **dict.fromkeys(("shards", "shards_idx"), Accepts({}, "the whole file is read", "write a smaller file")),
    "preprocess_shards": Ignored(SPEED),
}  # fmt: skip

RATE_GROUP: dict[str, Rule] = {
    "name": Ignored("the modules say which tower it is"),
    "modules": Accepts(
        {("visual",): "the vision tower", ("model.visual.blocks",): "the vision tower"}, "a rate is that of a tower",
        "modules: [model.visual.blocks]",
    ),
    "lr": Sets("lr", number, needed=True),
}  # fmt: skip

TABLE: dict[str, Rule] = {
    # base and quantization
    "base_model": Sets("base", text, needed=True),
    "trust_remote_code": REMOTE_CODE,
    "load_in_4bit": Sets("four_bit", boolean),
    "load_in_8bit": Sets("eight_bit", boolean),
    "bnb_config_kwargs": Section(
        {
            "bnb_4bit_quant_type": Sets("four_bit_kind", one_of({"nf4": "nf4", "fp4": "fp4"})),
            "bnb_4bit_use_double_quant": Sets("double_quantization", boolean),
            "bnb_4bit_compute_dtype": Ignored("the compute dtype is that of bf16 and fp16"),
            "llm_int8_threshold": Accepts({6.0: "as here"}, "int8 splits outliers at 6.0 here"),
        }
    ),
    "bf16": Sets("bf16", lambda value: value if value == "auto" else boolean(value)),
    "fp16": Sets("fp16", boolean),
    "gptq": off("a base is quantized when it is loaded", "choose the unquantized model and load_in_4bit"),
    "fp8": off("there is no fp8 base here"),
    **dict.fromkeys(
        ("model_type", "tokenizer_type", "processor_type", "is_llama_derived_model", "is_mistral_derived_model",
         "is_qwen_derived_model"),
        Ignored("classes follow the family in the base's config.json"),
    ),
    **dict.fromkeys(
        ("base_model_config", "tokenizer_config", "revision_of_model", "special_tokens", "tokens",
         "added_tokens_overrides", "resize_token_embeddings_to_32x"),
        Accepts({}, "the base is taken as it is saved", "save a base with these changes and name it"),
    ),
    # what is adapted
    "adapter": Sets("method", one_of({"lora": "lora", "qlora": "qlora"}, "only LoRA is placed here")),
    "lora_model_dir": Sets("init_from", text),
    "lora_r": Sets("rank", above_zero),
    "lora_alpha": Sets("alpha", number),
    "lora_dropout": Sets("dropout", at_least_zero),
    "lora_target_modules": Sets("targets", targets),
    "lora_target_linear": Sets("all_linear", boolean),
    "peft_layers_to_transform": Sets("layers", last_layers),
    "peft_use_rslora": Sets("rslora", boolean),
    "peft_use_dora": off("DoRA is another method"),
    "peft_init_lora_weights": Accepts({True: "as here"}, "adapters begin as PEFT begins them", "remove the key"),
    "lora_fan_in_fan_out": off("it is for layers that no family here has"),
    **dict.fromkeys(
        ("lora_modules_to_save", "lora_target_parameters", "peft_layers_pattern", "peft_layer_replication",
         "peft_trainable_token_indices", "loftq_config", "peft", "unfrozen_parameters"),
        Accepts({}, "only LoRA on linear layers is trained", "remove the key"),
    ),
    **dict.fromkeys(("loraplus_lr_ratio", "embedding_lr", "embedding_lr_scale"),
                    Accepts({}, "a rate is that of a tower", "remove the key")),
    "loraplus_lr_embedding": Ignored("no embedding is trained"),
    "relora": off("ReLoRA is another method"),
    "lora_on_cpu": Ignored(SPEED),
    # data
    "datasets": Entries("train", DATASET, "a list of one dataset"),
    "test_datasets": Entries("validation", DATASET, "a list of one dataset"),
    "val_set_size": off(
        "a validation set of its own is needed, not a part of the training rows", "write the held-out rows to a file "
        "and name it in test_datasets; then val_set_size: 0.0",
    ),
    "chat_template": TEMPLATE,
    "chat_template_jinja": Accepts({}, "only the base's own chat template is used"),
    "default_system_message": Accepts({}, "a system turn stands in the rows", "write it into every row"),
    "sequence_len": Sets("max_tokens", above_zero),
    "sample_packing": Sets("packing", boolean),
    "train_on_inputs": off("only assistant turns are supervised"),
    "group_by_length": off("rows keep the order of the data seed, so that arms can be compared"),
    "curriculum_sampling": off("rows keep the order of the data seed"),
    "pretraining_dataset": Accepts({}, HUB_DATA, "name a local file in datasets"),
    "shuffle_merged_datasets": Accepts({True: "as here"}, "rows are shuffled by the data seed"),
    **dict.fromkeys(
        ("dataset_prepared_path", "dataset_processes", "dataset_num_proc", "dataset_keep_in_memory",
         "dataset_exact_deduplication", "skip_prepare_dataset", "dataloader_num_workers", "dataloader_pin_memory",
         "dataloader_prefetch_factor", "eval_sample_packing", "pad_to_sequence_len", "sample_packing_group_size",
         "sample_packing_bin_size", "sample_packing_eff_est", "batch_flattening"),
        Ignored(SPEED),
    ),
    # the run
    "learning_rate": Sets("learning_rate", number),
    "lr_groups": Entries("rate_group", RATE_GROUP, "a list of one group, the vision tower"),
    "micro_batch_size": Sets("batch_rows", above_zero),
    "gradient_accumulation_steps": Sets("accumulation_steps", above_zero),
    "batch_size": Accepts({}, "rows of a step are micro_batch_size x gradient_accumulation_steps", "write these two"),
    "num_epochs": Sets("epochs", number),
    "max_steps": Sets("max_steps", whole),
    "optimizer": OPTIMIZER,
    "optim_args": Accepts({}, "AdamW takes torch's defaults here"),
    "lr_scheduler": Sets("schedule", SCHEDULE),
    "lr_scheduler_kwargs": SCHEDULE_SETTINGS,
    "cosine_min_lr_ratio": Sets("min_rate_ratio", at_least_zero),
    "cosine_constant_lr_ratio": Accepts({}, "the cosine falls to the last step here"),
    "warmup_steps": Sets("warmup_steps", at_least_zero),
    "warmup_ratio": Sets("warmup_ratio", at_least_zero),
    "weight_decay": Sets("weight_decay", at_least_zero),
    "max_grad_norm": Sets("max_gradient_norm", clip_norm),
    "adam_beta1": Accepts({0.9: "as here"}, "AdamW's betas are 0.9 and 0.999 here"),
    "adam_beta2": Accepts({0.999: "as here", 0.95: "0.999 here: results differ slightly"}, "betas are 0.9 and 0.999"),
    "adam_epsilon": Accepts({1e-8: "as here"}, "AdamW's epsilon is 1e-8 here"),
    "neftune_noise_alpha": off("noise on embeddings trains another model"),
    "seed": Sets("seed", whole),
    "eval_steps": Sets("eval_steps", number),
    "evals_per_epoch": Sets("evals_per_epoch", above_zero),
    "eval_strategy": Sets("eval_strategy", one_of({"no": "no", "steps": "steps", "epoch": "epoch"})),
    "early_stopping_patience": Accepts({}, "trials are stopped by guards", "remove it: guards stop a trial"),
    "rl": Accepts({}, "only supervised fine-tuning is done here"),
    "reward_model": off("only supervised fine-tuning is done here"),
    "plugins": Accepts({}, "code of plugins is not run", "remove it if the result does not depend on it"),
    "resume_from_checkpoint": Accepts({}, "a run of another tool cannot be resumed", "name its adapter in "
                                      "lora_model_dir"),
    **dict.fromkeys(
        ("eval_batch_size", "eval_table_size", "eval_max_new_tokens", "do_causal_lm_eval", "eval_causal_lm_metrics"),
        Ignored(EVALUATION),
    ),
    **dict.fromkeys(("do_bench_eval", "bench_dataset", "metric_for_best_model", "greater_is_better",
                     "loss_watchdog_threshold", "loss_watchdog_patience"), Ignored(REPORTED)),
    **dict.fromkeys(
        ("gradient_checkpointing", "gradient_checkpointing_kwargs", "flash_attention", "sdp_attention",
         "xformers_attention", "flex_attention", "eager_attention", "attn_implementation", "s2_attention",
         "torch_compile", "tf32", "low_cpu_mem_usage", "max_memory", "gpu_memory_limit", "device_map", "gc_steps",
         "auto_find_batch_size", "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "unsloth_lora_mlp",
         "unsloth_lora_qkv", "unsloth_lora_o", "unsloth_cross_entropy_loss", "flash_attn_cross_entropy"),
        Ignored(SPEED),
    ),
    **dict.fromkeys(
        ("output_dir", "save_strategy", "save_steps", "saves_per_epoch", "save_total_limit", "save_only_model",
         "save_safetensors", "load_best_model_at_end", "auto_resume_from_checkpoints", "merge_lora"),
        Ignored(CHECKPOINTS),
    ),
    **dict.fromkeys(("deepspeed", "fsdp", "fsdp_config", "ddp", "ddp_timeout", "world_size", "local_rank", "use_ray"),
                    Ignored(ONE_DEVICE)),
    **dict.fromkeys(("hub_model_id", "hub_strategy", "push_dataset_to_hub", "hf_use_auth_token"), Ignored(HUB)),
    **dict.fromkeys(("logging_steps", "debug", "strict", "profiler_steps"), Ignored(RECORD)),
    **TRACKING,
}  # fmt: skip

AXOLOTL = Tool(
    name="axolotl",
    signs=("base_model",),
    table=TABLE,
    defaults={
        "four_bit_kind": "nf4", "double_quantization": True, "bf16": "auto", "dropout": 0.0, "rslora": False,
        "max_tokens": 512, "batch_rows": 1, "accumulation_steps": 1, "epochs": 1.0, "schedule": "cosine",
        "weight_decay": 0.0, "max_gradient_norm": 1.0, "seed": 42, "warmup_share": 0.03, "eval_strategy": "epoch",
    },
    required={
        "base": "`base_model` must name the base",
        "method": "`adapter` must be lora or qlora; without it axolotl trains every weight",
        "rank": "`lora_r` must be given",
        "alpha": "`lora_alpha` must be given",
        "learning_rate": "`learning_rate` must be given",
        "train": "`datasets` must name the training rows",
        "validation": "`test_datasets` must name the validation rows",
    },
)  # fmt: skip
