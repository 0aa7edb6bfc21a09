"""Rules shared by the three tools, which all train with the Trainer of `transformers`."""

from __future__ import annotations

from sweeps.importers.no_effect import early_stop
from sweeps.importers.rules import Accepts, CheckedBy, Differs, Ignored, KeyRule, Section, Sets, off
from sweeps.importers.values import (
    above_zero,
    at_least_zero,
    boolean,
    clip_norm,
    decay,
    eval_strategy,
    number,
    one_of,
    rate,
    seed,
    share,
    whole,
)

RECORD = "every trial writes a record, which is also logged to MLflow"
CHECKPOINTS = "the checkpoints that --resume needs and the best adapter are always kept"
SPEED = "changes speed or memory, not the result"
ONE_DEVICE = "a trial trains on one device; on N devices the tool reads N times the rows per step"
REPORTED = "the probes define which metrics are reported"
HUB = "nothing is uploaded"
EVALUATION = "evals compute the loss and generate answers in their own batches"

AS_HERE = "the same here"
LIKE_ADAMW = Differs("AdamW with 32-bit states instead: results differ slightly")
THE_SAME_ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused", "paged_adamw_32bit",
                  "paged_adamw")  # fmt: skip
SMALLER_STATES = ("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "adamw_torch_8bit", "adamw_torch_4bit",
                  "ao_adamw_8bit", "ao_adamw_4bit", "ao_adamw_fp8")  # fmt: skip
OPTIMIZER = Accepts(
    {
        **dict.fromkeys(THE_SAME_ADAMW, "the same AdamW"),
        **dict.fromkeys(SMALLER_STATES, LIKE_ADAMW),
        "multimodal": "AdamW with a rate per tower, the same here",
    },
    "AdamW is the only supported optimizer, and another one gives another result",
    "use optimizer adamw_torch in the tool too, or run this configuration with the tool",
)
SCHEDULE = one_of(
    {
        "cosine": "cosine",
        "linear": "linear",
        "constant": "constant",
        "constant_with_warmup": "constant_with_warmup",
        "cosine_with_min_lr": "cosine",
        "warmup_stable_decay": "stable",
    },
    "choose the nearest of them",
)
SCHEDULE_SETTINGS = Section(
    {
        "min_lr": Sets("min_rate", at_least_zero),
        "min_lr_rate": Sets("min_rate_ratio", share),
        "min_lr_ratio": Sets("min_rate_ratio", share),
        "num_decay_steps": Sets("decay_steps", above_zero),
        "decay_type": Accepts({"linear": AS_HERE}, "the schedule `stable` decays linearly here"),
    }
)
# `sweeps.importers.config` refuses it for a base that names code of its own
REMOTE_CODE = Accepts(
    {False: "off", True: "every known family is loaded by a class of transformers, which runs no code of the base"},
    "code of a model repository is never run", "write true or false",
)  # fmt: skip
STREAMED = Accepts(
    {False: "off", True: Differs("the file is read whole and shuffled by the data seed, not through a buffer")},
    "rows are read from a file", "write true or false",
)  # fmt: skip
EARLY_STOP = CheckedBy(early_stop)
PICTURES = Accepts(
    {}, "the base's image processor sets the size of pictures",
    "remove the key and set it in the base's preprocessor_config.json",
)  # fmt: skip
# arguments of the Trainer in LLaMA-Factory and ms-swift, keys of the same name in axolotl
SAME_ROWS = {
    "auto_find_batch_size": off("the number of rows per step is the one in the file, and is never reduced"),
    "dataloader_drop_last": off("every row is read, including the last rows of an epoch"),
}

MISSING = {
    "base": "name a directory or a model of the hub; or pass --base",
    "train": "name a file of rows; or pass --train",
    "validation": "write held-out rows to a file and name it; or pass --val",
    "method": "write adapter: lora",
    "rank": "write lora_r: 16",
    "alpha": "write lora_alpha: 32",
    "learning_rate": "write learning_rate: 1e-4",
}

# arguments of transformers' TrainingArguments that ms-swift and LLaMA-Factory take under the same name
TRAINER: dict[str, KeyRule] = {
    "per_device_train_batch_size": Sets("batch_rows", above_zero),
    "gradient_accumulation_steps": Sets("accumulation_steps", above_zero),
    "learning_rate": Sets("learning_rate", rate),
    "weight_decay": Sets("weight_decay", at_least_zero),
    "max_grad_norm": Sets("max_gradient_norm", clip_norm),
    "num_train_epochs": Sets("epochs", number),
    "max_steps": Sets("max_steps", whole),
    "lr_scheduler_type": Sets("schedule", SCHEDULE),
    "lr_scheduler_kwargs": SCHEDULE_SETTINGS,
    "warmup_ratio": Sets("warmup_ratio", share),
    "warmup_steps": Sets("warmup_steps", at_least_zero),
    "eval_strategy": Sets("eval_strategy", eval_strategy),
    "evaluation_strategy": Sets("eval_strategy", eval_strategy),
    "eval_steps": Sets("eval_steps", number),
    "seed": Sets("seed", seed),
    "data_seed": Sets("data_seed", seed),
    "bf16": Sets("bf16", boolean),
    "fp16": Sets("fp16", boolean),
    "optim": OPTIMIZER,
    "neftune_noise_alpha": off("noise on embeddings changes the result"),
    "label_smoothing_factor": off("the loss is plain cross-entropy here"),
    "group_by_length": off("the data seed sets the order of rows, so that arms can be compared"),
    "resume_from_checkpoint": off("a run of another tool cannot be resumed", "continue its adapter instead"),
    "adam_beta1": Accepts({0.9: AS_HERE}, "AdamW's first beta is 0.9 here", "remove the key"),
    "adam_beta2": Sets("adam_beta2", decay),
    "adam_epsilon": Accepts({1e-8: AS_HERE}, "AdamW's epsilon is 1e-8 here", "remove the key"),
    **SAME_ROWS,
    "optim_args": Accepts({}, "AdamW has torch's defaults here", "remove the key"),
    "optim_target_modules": Accepts({}, "AdamW is the only supported optimizer", "remove the key"),
    "push_to_hub": Ignored(HUB),
    **dict.fromkeys(
        (
            "gradient_checkpointing", "gradient_checkpointing_kwargs", "torch_compile", "tf32", "use_liger_kernel",
            "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
            "dataloader_prefetch_factor", "include_num_input_tokens_seen", "average_tokens_across_devices",
            "full_determinism", "remove_unused_columns", "bf16_full_eval", "fp16_full_eval", "torch_compile_backend",
            "torch_compile_mode", "torch_empty_cache_steps", "liger_kernel_config", "skip_memory_metrics",
        ),
        Ignored(SPEED),
    ),
    **dict.fromkeys(
        ("output_dir", "overwrite_output_dir", "save_strategy", "save_steps", "save_total_limit", "save_only_model",
         "save_on_each_node", "load_best_model_at_end", "save_safetensors"),
        Ignored(CHECKPOINTS),
    ),
    **dict.fromkeys(("metric_for_best_model", "greater_is_better", "eval_on_start", "eval_delay",
                     "logging_first_step", "prediction_loss_only", "include_for_metrics"), Ignored(REPORTED)),
    **dict.fromkeys(("logging_steps", "logging_dir", "logging_strategy", "report_to", "run_name", "disable_tqdm",
                     "log_level", "logging_nan_inf_filter", "include_tokens_per_second"), Ignored(RECORD)),
    **dict.fromkeys(("per_device_eval_batch_size", "predict_with_generate", "do_eval", "do_predict",
                     "eval_accumulation_steps"), Ignored(EVALUATION)),
    **dict.fromkeys(("hub_model_id", "hub_private_repo", "hub_token", "hub_strategy",
                     "hub_always_push"), Ignored(HUB)),
    **dict.fromkeys(("deepspeed", "fsdp", "fsdp_config", "ddp_timeout", "ddp_backend", "ddp_find_unused_parameters",
                     "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "accelerator_config", "local_rank"),
                    Ignored(ONE_DEVICE)),
}  # fmt: skip

TRACKING: dict[str, KeyRule] = dict.fromkeys(
    ("wandb_project", "wandb_entity", "wandb_name", "wandb_run_name", "wandb_run_id", "wandb_watch", "wandb_mode",
     "wandb_log_model", "use_wandb", "use_mlflow", "mlflow_tracking_uri", "mlflow_experiment_name", "mlflow_run_name",
     "hf_mlflow_log_artifacts", "use_comet", "comet_workspace", "comet_project_name", "comet_experiment_key",
     "use_tensorboard", "use_swanlab", "swanlab_project", "swanlab_workspace", "swanlab_run_name", "swanlab_mode",
     "swanlab_logdir", "trackio_project_name", "trackio_run_name", "trackio_space_id"),
    Ignored(RECORD),
)  # fmt: skip
