"""The job of the comparison by LLaMA-Factory, run by the interpreter of an environment that has it::

    PYTHONPATH=. PYTHON_OF_THAT_ENVIRONMENT -m benchmarks.with_llamafactory JOB OUT RECOMPUTE

Calls `run_exp`, which `llamafactory-cli train` calls with the same settings, with a clock as an additional callback. It
recomputes activations in the backward, as it does by default, if RECOMPUTE is `yes`, and not if it is `no`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peer_job import Job, StepTimes, Trained


def main(job_path: Path, out: Path, recomputes: bool) -> None:
    """Train a job, and write its losses and times."""
    import torch
    from llamafactory.train.tuner import run_exp

    from benchmarks.with_trl import clock

    job = Job.read(job_path)
    torch.set_num_threads(job.threads)
    times = StepTimes(synchronize=torch.cuda.synchronize if job.device == "cuda" else lambda: None)
    with tempfile.TemporaryDirectory() as scratch:
        run_exp(settings(job, Path(scratch), recomputes), callbacks=[clock(times)])
        state = json.loads((Path(scratch) / "trained" / "trainer_state.json").read_text(encoding="utf-8"))
    losses = [one["loss"] for one in state["log_history"] if "loss" in one]
    names = ("llamafactory", "transformers", "peft", "torch")
    Trained.of(times, losses, ", ".join(f"{name} {version(name)}" for name in names)).write(out)


def settings(job: Job, scratch: Path, recomputes: bool) -> dict[str, Any]:
    """Write the encoded rows below `scratch`; return the settings, as its YAML file has them."""
    from datasets import Dataset, DatasetDict

    rows = [{**vars(row), "attention_mask": [1] * len(row.input_ids), "images": None, "videos": None, "audios": None}
            for row in job.rows]  # fmt: skip
    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(str(scratch / "rows"))
    quantized = {} if job.quantization == "none" else {"quantization_bit": 4, "quantization_method": "bnb"}
    return {
        "model_name_or_path": str(_base_in(job, scratch / "base")),
        "adapter_name_or_path": job.adapter, "stage": "sft", "do_train": True,
        "finetuning_type": "lora", "template": "empty", "dataset": "rows", "tokenized_path": str(scratch / "rows"),
        "flash_attn": "sdpa", "disable_gradient_checkpointing": not recomputes, "disable_shuffling": True,
        "output_dir": str(scratch / "trained"), "max_steps": job.steps,
        "per_device_train_batch_size": job.batch_rows, "gradient_accumulation_steps": 1,
        "learning_rate": job.learning_rate, "lr_scheduler_type": "constant", "adam_beta1": job.adam_betas[0],
        "adam_beta2": job.adam_betas[1], "weight_decay": job.weight_decay, "max_grad_norm": job.max_gradient_norm,
        "optim": "adamw_torch", "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "use_cpu": job.device == "cpu", "bf16": job.dtype == "bfloat16", "dataloader_pin_memory": False, **quantized,
    }  # fmt: skip


def _base_in(job: Job, directory: Path) -> Path:
    """Make a directory of links to the base whose configuration names the job's dtype, which it computes in."""
    directory.mkdir()
    for path in Path(job.base).iterdir():
        if path.name != "config.json":
            (directory / path.name).symlink_to(path.resolve())
    config = json.loads((Path(job.base) / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps({**config, "dtype": job.dtype}), encoding="utf-8")
    return directory


if __name__ == "__main__":
    job_file, out_file, recompute = sys.argv[1:]
    main(Path(job_file), Path(out_file), recompute == "yes")
