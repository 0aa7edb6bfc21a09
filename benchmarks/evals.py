"""`python -m benchmarks.evals`: what an eval costs, with drafts and decoded token by token.

One trial trains on a base and rows of choice. At each of its evals the same answers are found in both ways, one after
the other, and compared; beside them stand a training step and one teacher-forced pass over the rows of the eval.
"""

from __future__ import annotations

import itertools
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.command import run
from trainables.limits import TRAIN_SLICE_ROWS
from trainables.spec import Source, TrialSpec, parse_spec

if TYPE_CHECKING:
    from trainables.data.encoding import Batch, Encoded
    from trainables.engine import Engine
    from trainables.evaluation.drafts import AnswerRules, Drafts
    from trainables.evaluation.passes import DraftedRow, Members, Observer, PromptRow
    from trainables.training.trial import Trial

SOURCES = ("last", "base", "reference")
NO_DIGEST = "0" * 64  # the rows are read here alone


@dataclass(frozen=True)
class EvalCost:
    """One eval of a trial: seconds of repetitions, tokens, and the share of answer tokens that each source drafts."""

    step: int
    plain_seconds: list[float]
    drafted_seconds: list[float]
    forced_seconds: list[float]
    step_seconds: float
    equal: bool
    answers: int
    answer_tokens: int
    decoded_rows: int
    decoded_tokens: int
    accepted: dict[str, dict[str, float]]  # by kind of question and source

    @property
    def line(self) -> str:
        """Return the figures for people to read."""
        plain, drafted, forced = (min(one) for one in (self.plain_seconds, self.drafted_seconds, self.forced_seconds))
        shares = "; ".join(
            f"{kind} " + ", ".join(f"{source} {share:.0%}" for source, share in found.items())
            for kind, found in self.accepted.items()
        )
        return (
            f"step {self.step}: plain {plain:.2f} s = {plain / self.step_seconds:.1f} steps, drafted {drafted:.2f} s = "
            f"{drafted / self.step_seconds:.1f} steps = {drafted / forced:.2f} forced passes, "
            f"{'equal' if self.equal else 'UNEQUAL'} answers; decoded {self.decoded_tokens} of {self.answer_tokens} "
            f"tokens, of {self.decoded_rows} answers; drafts: {shares}"
        )


def main(  # noqa: PLR0913, PLR0917 one option each
    base: Annotated[Path | None, typer.Option(help="Base directory; the miniature without it.")] = None,
    train: Annotated[Path | None, typer.Option(help="Training rows; those of the miniature without it.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Validation rows.")] = None,
    ood: Annotated[Path | None, typer.Option(help="Out-of-distribution rows.")] = None,
    placement: Annotated[str, typer.Option(help="Adapted layers: language,vision.")] = "2,0",
    quantization: Annotated[str, typer.Option(help="Quantization of the base.")] = "none",
    compute_dtype: Annotated[str, typer.Option(help="Compute dtype.")] = "auto",
    learning_rate: Annotated[float, typer.Option(help="Learning rate of the trial.")] = 1e-3,
    batch_rows: Annotated[int, typer.Option(help="Rows of a step.")] = 16,
    train_slice_rows: Annotated[int, typer.Option(help="Training rows of an eval.")] = TRAIN_SLICE_ROWS,
    evals: Annotated[int, typer.Option(help="Evals to measure.")] = 3,
    every: Annotated[int, typer.Option(help="Steps between evals.")] = 8,
    repeats: Annotated[int, typer.Option(help="Repetitions of each figure.")] = 2,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 2,
    processor_time: Annotated[bool, typer.Option("--cpu-time", help="Measure CPU seconds: on a busy machine.")] = False,
    drift: Annotated[bool, typer.Option("--drift", help="Also measure the drift of other batch shapes.")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Measure and print; figures are also written to --out."""
    import torch

    from trainables.engine import Engine
    from trainables.io.files import write_json

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        language, vision = (int(one) for one in placement.split(","))
        settings = {
            "name": "evals", "steps": evals * every, "eval_every_steps": every, "batch_rows": batch_rows,
            "learning_rate": learning_rate, "dropout": 0.0, "quantization": quantization,
            "train_slice_rows": train_slice_rows,
            "compute_dtype": compute_dtype, "placement": {"language": language, "vision": vision},
        }  # fmt: skip
        spec = parse_spec({**settings, **_sources(base, train, validation, ood, Path(scratch))})
        engine = Engine.load(spec)
        clock = time.process_time if processor_time else time.perf_counter
        found: dict[str, Any] = {"base": engine.base.path.name, "quantization": quantization, "threads": threads}
        found["evals"] = [asdict(one) for one in measured(engine, spec, Path(scratch), repeats, clock, typer.echo)]
        if drift:
            found["drift"] = _drift(engine, typer.echo)
    if out is not None:
        write_json(out, found)


def measured(
    engine: Engine, spec: TrialSpec, directory: Path, repeats: int, clock: Callable[[], float],
    say: Callable[[str], None],
) -> list[EvalCost]:  # fmt: skip
    """Train a trial and measure each of its evals."""
    from trainables.constraint import CONSTRAINT, applicable_constraint
    from trainables.metrics import reported
    from trainables.probes.captions import captions
    from trainables.probes.probe import Baseline
    from trainables.record import Record
    from trainables.training.trial import Trial

    began = clock()
    scores, answers = engine.evaluator.measure(None)
    say(f"{len(engine.evaluator.questions)} questions; the baseline's eval: {clock() - began:.1f} s")
    known = Baseline(scores.metrics, captions(engine.evaluator.data, answers), scores.counts, answers=answers)
    record, costs = Record(directory / "trial"), []
    record.create(spec)
    constraint = applicable_constraint(CONSTRAINT, reported(engine.evaluator.data))
    trial, verdict = Trial(engine, spec, record, known, (), constraint), None
    while verdict is None:
        last, of_base = trial.answered.drafts
        drafts = dict(last), of_base
        times: list[float] = []
        verdict = trial.advance(lambda: times.append(clock()) or False)  # noqa: B023 called at once
        steps = [later - earlier for earlier, later in itertools.pairwise(times)]
        engine.base.model.eval()
        costs.append(_cost(trial, drafts, statistics.median(steps), repeats, clock))
        say(costs[-1].line)
    trial.remove()
    return costs


def _cost(
    trial: Trial, drafts: Sequence[Drafts], step_seconds: float, repeats: int, clock: Callable[[], float]
) -> EvalCost:
    from trainables.health import eval_integrity

    evaluator, step, times = trial.engine.evaluator, trial.step, ([], [], [])
    plain = drafted = None
    known: dict[str, int] = {}
    for _ in range(repeats):
        began = clock()
        plain = eval_integrity.measure(evaluator, trial.baseline, step, None)
        middle = clock()
        with eval_integrity.witness_of(evaluator) as witness:
            evaluator.observer = tally = Tally(witness)
            scores, answers = evaluator.measure(trial.baseline, drafts)
        drafted, known = eval_integrity.judged(evaluator, step, scores, answers, witness.of(0)), tally.known
        end = clock()
        _forced_pass(trial.engine, drafted.tokens)
        for found, seconds in zip(times, (middle - began, end - middle, clock() - end), strict=True):
            found.append(seconds)
    assert plain is not None and drafted is not None
    return EvalCost(
        step, *times, step_seconds, plain.answers == drafted.answers and drafted.finding is None,
        len(drafted.answers), sum(map(len, drafted.tokens.values())), len(known),
        sum(len(drafted.tokens[key]) - count for key, count in known.items()),
        _accepted(trial.engine, drafted.tokens, drafts),
    )  # fmt: skip


@dataclass(frozen=True)
class Tally:
    """Notes how much of each decoded answer was known before, and tells a witness what it sees."""

    witness: Observer
    known: dict[str, int] = field(default_factory=dict)

    def verified(self, batch: Batch, rows: Sequence[DraftedRow | None], groups: Sequence[Members]) -> None:
        """Tell the witness."""
        self.witness.verified(batch, rows, groups)

    def decoded(self, rows: Sequence[PromptRow], groups: Sequence[Members], rules: AnswerRules) -> None:
        """Note the rows, and tell the witness."""
        self.known.update({row.key: len(row.known) for row in rows if row.members})
        self.witness.decoded(rows, groups, rules)


def _forced_pass(engine: Engine, tokens: Mapping[str, Sequence[int]]) -> None:
    """Run all rows of an eval once with their labels: validation, train slice, and the other answers as rows."""
    import torch

    from trainables.data.encoding import IGNORED, chunks, collate
    from trainables.evaluation.evaluator import LOSS_TOKENS, label_logits
    from trainables.probes.question import ask_validation

    evaluator = engine.evaluator
    own = {ask_validation(row).key for row in evaluator.data.validation}
    rows: list[Encoded] = [*evaluator.validation, *evaluator.train_slice]
    for question, prompt in zip(evaluator.questions, evaluator.prompts, strict=True):
        if question.key not in own:
            answer = list(tokens[question.key])
            labels = [IGNORED] * len(prompt.tokens) + answer
            rows.append(replace(prompt, tokens=[*prompt.tokens, *answer], labels=labels))
    with torch.no_grad():
        for chunk in chunks(rows, LOSS_TOKENS):
            label_logits(engine.base, collate([rows[one] for one in chunk], engine.encoder, engine.base.device, False))


def _accepted(
    engine: Engine, tokens: Mapping[str, Sequence[int]], drafts: Sequence[Drafts]
) -> dict[str, dict[str, float]]:
    """Return the share of answer tokens up to the first difference, by kind of question and source of the draft."""
    from trainables.probes.question import ask_ood, ask_validation

    evaluator = engine.evaluator
    kinds = {ask_ood(row).key: row.kind for row in evaluator.data.ood}
    kinds |= {ask_validation(row).key: "validation" for row in evaluator.data.validation}
    reference = {row.key: row.draft for row in evaluator.references((0,)) if row is not None}
    shares: dict[str, dict[str, list[int]]] = {}
    for key, answer in tokens.items():
        for source, one in zip(SOURCES, (*drafts, reference), strict=True):
            if key in one:
                same = next((i for i, (a, b) in enumerate(zip(answer, one[key], strict=False)) if a != b), None)
                count = min(len(answer), len(one[key])) if same is None else same
                found = shares.setdefault(kinds.get(key, "crop"), {}).setdefault(source, [0, 0])
                found[0], found[1] = found[0] + count, found[1] + len(answer)
    return {kind: {source: one / all_ for source, (one, all_) in found.items()} for kind, found in shares.items()}


def _drift(engine: Engine, say: Callable[[str], None]) -> dict[str, Any]:
    from benchmarks.eval_drift import measure_drift
    from trainables.evaluation.near_ties import drift_share

    evaluator = engine.evaluator
    found = measure_drift(engine, evaluator.prompts, evaluator.max_new_tokens, drift_share(engine.base.model))
    say(str(found))
    return asdict(found)


def _sources(
    base: Path | None, train: Path | None, validation: Path | None, ood: Path | None, scratch: Path
) -> dict[str, Source]:
    from trainables.mini import BASE_DIRECTORY, datasets

    if base is None:
        files = datasets.write(scratch / "rows", seed=0)
        paths = [BASE_DIRECTORY, files.train, files.validation, files.ood]
    else:
        if train is None or validation is None or ood is None:
            raise typer.BadParameter("a --base needs --train, --validation and --ood")
        paths = [base, train, validation, ood]
    names = ("base", "train", "validation", "ood")
    return {name: Source(path=path, sha256=NO_DIGEST) for name, path in zip(names, paths, strict=True)}


if __name__ == "__main__":
    run(main)
