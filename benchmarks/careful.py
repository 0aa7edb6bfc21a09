"""The loop that a careful user writes by hand: transformers and PEFT, one trial, nothing computed that is not needed.

All rows of a step are one micro-batch. The base stays in memory, dequantized once. Attention is PyTorch's fused one
(SDPA), no hook makes the embeddings differentiable, nothing is recomputed, and logits are computed for labels only.
As a module it trains a job (`peer_job.py`) in a process of its own; none of this project's training code is used::

    python -m benchmarks.careful JOB OUT
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peer_job import IGNORED_LABEL, Job, JobRow, StepTimes, Trained

if TYPE_CHECKING:
    import torch


def main(job_path: Path, out: Path) -> None:
    """Train a job, and write its losses and times."""
    import peft
    import torch
    import transformers

    job = Job.read(job_path)
    torch.set_num_threads(job.threads)
    model, adapted = load(job)
    optimizer = torch.optim.AdamW(
        [one for one in adapted.parameters() if one.requires_grad],
        lr=job.learning_rate, betas=job.adam_betas, weight_decay=job.weight_decay,
    )  # fmt: skip
    adapted.train()
    batches = (padded(job.step_rows(step), job.device) for step in range(job.steps))
    times = StepTimes(synchronize=torch.cuda.synchronize if job.device == "cuda" else lambda: None)
    times.mark()
    losses = []
    for inputs, labels in batches:
        losses.append(train_step(model, optimizer, inputs, labels, job.max_gradient_norm))
        times.mark()
    versions = f"transformers {transformers.__version__}, peft {peft.__version__}, torch {torch.__version__}"
    Trained.of(times, losses, versions).write(out)


def load(job: Job) -> tuple[Any, Any]:
    """Load the base with the initial adapter; return the model and the same model as PEFT's."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, job.dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(
        job.base, dtype=dtype, attn_implementation="sdpa", device_map={"": job.device}, local_files_only=True,
        quantization_config=quantization_config(job, dtype),
    )  # fmt: skip
    if job.quantization != "none":
        model = model.dequantize(dtype=dtype)
    return model, PeftModel.from_pretrained(model, job.adapter, is_trainable=True)


def quantization_config(job: Job, dtype: torch.dtype) -> Any:
    """Return the bitsandbytes configuration of a job, None for an unquantized base."""
    from transformers import BitsAndBytesConfig

    if job.quantization == "none":
        return None
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def padded(rows: Sequence[JobRow], device: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the inputs and the labels of a batch (rows, tokens), padded on the right."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    tokens = [torch.tensor(row.input_ids) for row in rows]
    labels = [torch.tensor(row.labels) for row in rows]
    inputs = {
        "input_ids": pad_sequence(tokens, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in tokens], batch_first=True),
    }
    moved = {name: tensor.to(device) for name, tensor in inputs.items()}
    return moved, pad_sequence(labels, batch_first=True, padding_value=IGNORED_LABEL).to(device)


def train_step(
    model: Any, optimizer: torch.optim.Optimizer, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor,
    max_gradient_norm: float,
) -> float:  # fmt: skip
    """Train one step on a batch; return the mean loss in nats per label."""
    import torch

    loss = label_loss(model, inputs, labels)
    loss.backward()
    trained = [one for group in optimizer.param_groups for one in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, max_gradient_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def label_loss(model: Any, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Return the mean loss over the labels of a batch; logits are computed where a label is predicted."""
    from torch.nn.functional import cross_entropy

    targets = labels[:, 1:]
    supervised = targets != IGNORED_LABEL
    hidden = model.model(**inputs, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[:, :-1][supervised])
    return cross_entropy(logits.float(), targets[supervised])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
