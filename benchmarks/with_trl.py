"""The job of the comparison by TRL's `SFTTrainer`, run by the interpreter of an environment that has TRL::

    PYTHONPATH=. PYTHON_OF_THAT_ENVIRONMENT -m benchmarks.with_trl JOB OUT RECOMPUTE

It recomputes activations in the backward, as it does by default, if RECOMPUTE is `yes`, and not if it is `no`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peer_job import Job, StepTimes, Trained


def main(job_path: Path, out: Path, recomputes: bool) -> None:
    """Train a job, and write its losses and times."""
    import peft
    import torch
    import transformers
    import trl

    job = Job.read(job_path)
    torch.set_num_threads(job.threads)
    transformers.logging.set_verbosity_error()
    times = StepTimes(synchronize=torch.cuda.synchronize if job.device == "cuda" else lambda: None)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(job, Path(scratch), times, recomputes)
        trainer.train()
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    versions = (f"TRL {trl.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, "
                f"torch {torch.__version__}")  # fmt: skip
    Trained.of(times, losses, versions).write(out)


def _trainer(job: Job, scratch: Path, times: StepTimes, recomputes: bool) -> Any:
    import torch
    from datasets import Dataset
    from peft import PeftModel, prepare_model_for_kbit_training
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from benchmarks.careful import quantization_config

    dtype = getattr(torch, job.dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(
        job.base, dtype=dtype, attn_implementation="sdpa", device_map={"": job.device}, local_files_only=True,
        quantization_config=quantization_config(job, dtype),
    )  # fmt: skip
    if job.quantization != "none":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=recomputes)
    adapted = PeftModel.from_pretrained(model, job.adapter, is_trainable=True)

    class InOrder(SFTTrainer):
        """Reads the rows in the order of the job."""

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    arguments = SFTConfig(
        output_dir=str(scratch), max_steps=job.steps, per_device_train_batch_size=job.batch_rows,
        learning_rate=job.learning_rate, lr_scheduler_type="constant", adam_beta1=job.adam_betas[0],
        adam_beta2=job.adam_betas[1], weight_decay=job.weight_decay, max_grad_norm=job.max_gradient_norm,
        optim="adamw_torch", logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True,
        use_cpu=job.device == "cpu", bf16=job.dtype == "bfloat16", max_length=None, packing=False,
        dataloader_pin_memory=False, gradient_checkpointing=recomputes, dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    rows = Dataset.from_list([vars(row) for row in job.rows])
    tokenizer = AutoTokenizer.from_pretrained(job.base, local_files_only=True)
    return InOrder(
        model=adapted, args=arguments, train_dataset=rows, processing_class=tokenizer, callbacks=[clock(times)]
    )


def clock(times: StepTimes) -> Any:
    """Return a callback of transformers' Trainer that reads a clock."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Reads the clock before the first step and after every step."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            times.mark()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.mark()

    return Clock()


if __name__ == "__main__":
    job_file, out_file, recompute = sys.argv[1:]
    main(Path(job_file), Path(out_file), recompute == "yes")
