"""Our arms of the comparison with others: the same job by a trial alone, and by a cohort of trials.

As a module it runs one arm in a process of its own, like the others::

    python -m benchmarks.peer_ours SPEC TRIALS STEPS THREADS KEEP OUT

KEEP is `yes` to keep what frozen layers compute, as a launch does, or `no`.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peer_job import Job, JobRow, StepTimes, Trained
from trainables.errors import InfrastructureError
from trainables.io.files import read_json, write_json
from trainables.spec import TrialSpec, read_spec

if TYPE_CHECKING:
    from trainables.engine import Engine
    from trainables.probes.probe import Baseline
    from trainables.training.trial import Trial


RATES = (1.0, 0.5, 2.0, 0.25, 0.7, 1.4)  # of the spec's rate, by the trials of a cohort; the first is the job's


def job_of(spec: TrialSpec, steps: int, directory: Path, threads: int) -> Job:
    """Encode the rows of the first `steps` steps, and save the initial adapter of a trial below `directory`."""
    import itertools

    from trainables.engine import Engine
    from trainables.model.lora import place
    from trainables.model.optimizer import ADAM_BETA1
    from trainables.model.placement import resolve
    from trainables.model.quantization import resolve_dtype

    engine = Engine.load(spec)
    adapter = place(engine.base, spec, resolve(spec.placement, engine.base.towers, spec.target_modules))
    saved = directory / "adapter"
    saved.mkdir(parents=True, exist_ok=True)
    adapter.save(saved)
    encoded = (
        engine.encode(index, spec.max_tokens)
        for index in itertools.islice(engine.row_stream(spec, 0), steps * spec.batch_rows)
    )
    dtype = resolve_dtype(spec.compute_dtype, engine.base.device)
    return Job(
        base=str(spec.base.path),
        adapter=str(saved),
        rows=[JobRow(row.tokens, row.labels) for row in encoded],
        batch_rows=spec.batch_rows,
        learning_rate=spec.learning_rate,
        adam_betas=(ADAM_BETA1, spec.adam_beta2),
        weight_decay=spec.weight_decay,
        max_gradient_norm=spec.max_gradient_norm,
        quantization=spec.quantization,
        dtype=str(dtype).removeprefix("torch."),
        device=engine.base.device.type,
        threads=threads,
    )


def main(spec_path: Path, trials: int, steps: int, threads: int, keeps: bool, out: Path) -> None:
    """Train `trials` trials for `steps` steps; write the losses of the first and the times of a step of all."""
    import torch

    from trainables.engine import Engine
    from trainables.frozen.settings import IN_MEMORY, OFF
    from trainables.frozen.store import Store
    from trainables.probes.captions import captions
    from trainables.probes.probe import Baseline

    torch.set_num_threads(threads)
    spec = read_spec(read_json(spec_path))
    engine = Engine.load(spec, store=Store.of(IN_MEMORY if keeps else OFF))
    scores, answers = engine.evaluator.measure(None)
    baseline = Baseline(scores.metrics, captions(engine.evaluator.data, answers), scores.counts)
    on_gpu = engine.base.device.type == "cuda"
    times = StepTimes(last=steps, synchronize=torch.cuda.synchronize if on_gpu else lambda: None)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        opened = _opened(engine, baseline, variants(spec, trials), Path(scratch), stack)
        _advance(engine, opened, times, stack)
        losses = [one.loss for one in opened[0].monitor.history]
    write_json(out, vars(Trained.of(times, losses, f"torch {torch.__version__}")))


def variants(spec: TrialSpec, count: int) -> list[TrialSpec]:
    """Return `count` trials of one placement: the given one first, then others by rate and seed."""
    return [
        spec.model_copy(
            update={
                "name": f"{spec.name}-{number}",
                "learning_rate": spec.learning_rate * RATES[number % len(RATES)],
                "seed": spec.seed + number // len(RATES),
            }
        )
        for number in range(count)
    ]


def _opened(
    engine: Engine, baseline: Baseline, specs: list[TrialSpec], directory: Path, stack: ExitStack
) -> list[Trial]:
    from trainables.constraint import CONSTRAINT
    from trainables.guards import GUARDS
    from trainables.record import Record
    from trainables.training.trial import Trial, open_trial

    opened: list[Trial] = []
    for number, spec in enumerate(specs):
        record = Record(directory / str(number))
        record.create(spec)
        trial = open_trial(engine, spec, record, baseline, GUARDS, CONSTRAINT)
        assert isinstance(trial, Trial)
        stack.callback(trial.remove)
        if len(specs) > 1:
            trial.adapter.remove()  # the next one is placed on a bare base
        opened.append(trial)
    return opened


def _advance(engine: Engine, trials: list[Trial], times: StepTimes, stack: ExitStack) -> None:
    from trainables.cohort.cohort import Cohort

    if len(trials) == 1:
        trials[0].advance(times)
    else:
        cohort = Cohort(engine, trials)
        stack.callback(cohort.remove)
        cohort.advance(times)
    ended = [verdict for one in trials if (verdict := one.record.verdict())]
    if ended:
        raise InfrastructureError(f"every trial must train to its last step, but one ended: {ended[0].reason}", "")


if __name__ == "__main__":
    spec_file, trial_count, step_count, thread_count, keep, out_file = sys.argv[1:]
    main(Path(spec_file), int(trial_count), int(step_count), int(thread_count), keep == "yes", Path(out_file))
