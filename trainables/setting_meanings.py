"""What each setting of a trial means, by its name in `TrialSpec`, for the reference and for editors."""

from __future__ import annotations

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    "format": "format of the experiment; earlier ones are read and finished as they began",
    "name": "name for display; no part of the id",
    "arm": "arm of the study that the trial belongs to; no part of the id",
    "base": "directory of the base, and the hash of its files",
    "train": "training rows, and the hash of rows and pictures",
    "validation": "validation rows, and their hash",
    "ood": "out-of-distribution rows, and their hash",
    "earlier": "validation rows of the earlier stages of a curriculum",
    "placement": "which layers of each tower carry LoRA, and on which kind of linears",
    "target_modules": "names of the adapted linears of a layer, such as `q_proj`; empty means those of the placement's "
    "kind, and `experts` alone the experts",
    "rank": "rank of LoRA",
    "alpha": "alpha of LoRA: the update is scaled by alpha / rank, or with `rslora` by alpha / sqrt(rank)",
    "dropout": "share of the inputs of LoRA that are dropped in training",
    "rslora": "scale by alpha / sqrt(rank) instead of alpha / rank",
    "quantization": "quantization of the frozen base",
    "compute_dtype": "dtype of activations; `auto` is bfloat16 on CUDA and float32 on a CPU",
    "learning_rate": "peak rate of the language tower, per optimizer step",
    "vision_learning_rate": "peak rate of the vision tower, per optimizer step",
    "weight_decay": "weight decay of AdamW",
    "adam_beta2": "decay of AdamW's second moment, per step",
    "schedule": "shape of the rate after warm-up",
    "warmup_ratio": "fraction of the steps in which the rate rises to its peak",
    "min_rate_ratio": "fraction of the peak rate at which the schedule ends",
    "max_gradient_norm": "norm to which the gradient of a step is clipped",
    "steps": "optimizer steps; a study may give `epochs` instead",
    "batch_rows": "rows of one forward pass",
    "accumulation_steps": "forward passes of one optimizer step",
    "batch_warmup_ratio": "fraction of the steps in which the rows per step grow to their number",
    "eval_every_steps": "steps between evals; a short run has its evals closer together",
    "max_tokens": "most tokens of a row, pictures included; a longer row is refused",
    "template_date": "date that the chat template shows; none if it shows none",
    "packed_tokens": "above 0, text rows of a batch are packed into sequences of at most so many tokens; at 0 rows are "
    "padded",
    "train_slice_rows": "first training rows on which every eval measures the loss",
    "probes": "probes that the study asks for beside its own (`--probes`)",
    "seed": "seed of LoRA's initialization and of dropout",
    "data_seed": "seed of the order of the rows",
    "init_from": "adapter that the trial starts from",
    "continuation": "whether that adapter has the same placement or covers a part of it",
    "optimizer": "whether AdamW starts fresh or with the state of that adapter",
    "replay": "general rows among the task rows, and their hash",
    "replay_ratio": "share of replay rows in the rows trained on",
    "pilot_steps": "above 0, the trial is a pilot and ends after so many of its steps",
}
PLACEMENT_MEANINGS: Mapping[str, str] = {
    "language": "number of language layers with LoRA",
    "vision": "number of vision blocks with LoRA",
    "language_indices": "those layers, counted from 0 at the input; empty means the last",
    "vision_indices": "those blocks, counted from 0 at the input; empty means the last",
    "modules": "kind of linears that carry LoRA",
}
