"""`python -m benchmarks.peers`: the same adapter trained by us, by a careful user's loop, TRL and LLaMA-Factory.

Every arm is a process that trains the same rows in the same order from the same initial adapter with AdamW. The losses
of all arms must agree, which shows that they do the same work. Writes `docs/peers.md`, and its figures as JSON.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.peer_job import Trained
from trainables.command import run
from trainables.errors import InfrastructureError, UserError

PAGE = Path("docs/peers.md")
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class PeerArm:
    """One way of training: the command of its process, and the number of trials that it trains at once."""

    title: str
    command: list[str]
    trials: int = 1


@dataclass(frozen=True)
class Work:
    """What is trained: files, placement, steps of an epoch, and epochs."""

    base: Path
    train: Path
    validation: Path
    ood: Path
    layers: int
    epoch_rows: int
    batch_rows: int
    epochs: int
    quantization: str

    @property
    def steps(self) -> int:
        """Return the steps of all epochs."""
        return self.epoch_rows // self.batch_rows * self.epochs


def main(  # noqa: PLR0913, PLR0917 one option each
    base: Annotated[Path, typer.Option(help="Directory of a text-only base.")],
    train: Annotated[Path, typer.Option(help="Rows to train on.")],
    validation: Annotated[Path, typer.Option(help="Rows of the validation file; only the first is used.")],
    ood: Annotated[Path, typer.Option(help="Rows of the out-of-distribution file; only the first is used.")],
    trl: Annotated[Path | None, typer.Option(help="Python of an environment with TRL.")] = None,
    llamafactory: Annotated[Path | None, typer.Option(help="Python of an environment with LLaMA-Factory.")] = None,
    layers: Annotated[int, typer.Option(min=1, help="Adapted layers, the last ones.")] = 2,
    trials: Annotated[int, typer.Option(min=2, help="Trials of the cohort, by rate and seed.")] = 6,
    epoch_rows: Annotated[int, typer.Option(min=4, help="Rows of one epoch.")] = 24,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows of one step.")] = 4,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs; figures are given for one and for all.")] = 3,
    quantization: Annotated[str, typer.Option(help="`none` or `nf4`.")] = "none",
    repeats: Annotated[int, typer.Option(min=1, help="Runs of every arm, in rotating order.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every process.")] = 1,
    out: Annotated[Path, typer.Option(help="Output page; figures are kept as JSON beside it.")] = PAGE,
) -> None:
    """Train, compare and write the page; an arm whose environment is not given is left out.

    Exit code 1 when an arm's losses differ by more than rounding, so that it has not done the same work.
    """
    if quantization not in ("none", "nf4"):
        raise UserError(f"--quantization must be none or nf4, but got `{quantization}`", "--quantization none")
    began = time.perf_counter()
    say = lambda text: typer.echo(f"{time.perf_counter() - began:6.0f} s  {text}")  # noqa: E731
    work = Work(base, train, validation, ood, layers, epoch_rows, batch_rows, epochs, quantization)
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(work, {"trl": trl, "llamafactory": llamafactory}, trials, repeats, threads, Path(scratch), say)
    typer.echo(write(out, found))


def measure(
    work: Work, pythons: Mapping[str, Path | None], trials: int, repeats: int, threads: int, scratch: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Run every arm `repeats` times, interleaved; return what they took, and the work."""
    from benchmarks.measure import machine

    arms = arms_of(_write_job(work, threads, scratch), pythons, trials, work.steps, threads)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    for repeat in range(repeats):
        names = list(arms)
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            one = _run(arms[name], scratch / f"{name}-{repeat}.json")
            runs[name].append(asdict(one))
            say(f"{arms[name].title}: {sum(one.cpu_seconds[1:]) / len(one.cpu_seconds[1:]):.3f} CPU s a step")
    described = {name: value for name, value in asdict(work).items() if not isinstance(value, Path)}
    return {
        "machine": {**machine("cpu"), "threads": threads},
        "base": work.base.name,
        "work": {**described, "epoch_steps": work.epoch_rows // work.batch_rows},
        "arms": {name: {"title": arm.title, "trials": arm.trials, "runs": runs[name]} for name, arm in arms.items()},
    }


def arms_of(
    directory: Path, pythons: Mapping[str, Path | None], trials: int, steps: int, threads: int
) -> dict[str, PeerArm]:
    """Return the arms by name; `directory` holds the job and the spec, `pythons` the interpreters of others."""
    job, spec, own = str(directory / "job.json"), str(directory / "spec.json"), sys.executable
    ours = [own, "-m", "benchmarks.peer_ours", spec]
    end, cohort = [str(steps), str(threads)], f"Footprint, a cohort of {trials}"
    arms = {
        "careful": PeerArm("a careful user's loop", [own, "-m", "benchmarks.careful", job]),
        "alone": PeerArm("Footprint, one trial alone", [*ours, "1", *end, "no"]),
        "cohort": PeerArm(cohort, [*ours, str(trials), *end, "no"], trials),
        "cohort-kept": PeerArm(f"{cohort}, activations kept", [*ours, str(trials), *end, "yes"], trials),
    }
    others = {"trl": ("TRL's SFTTrainer", "benchmarks.with_trl"),
              "llamafactory": ("LLaMA-Factory", "benchmarks.with_llamafactory")}  # fmt: skip
    for name, python in pythons.items():
        if python is not None:
            title, module = others[name]
            arms[name] = PeerArm(f"{title}, as it comes", [str(python), "-m", module, job, "{out}", "yes"])
            arms[f"{name}-kept"] = PeerArm(
                f"{title}, without recomputation", [str(python), "-m", module, job, "{out}", "no"]
            )
    return arms


def _write_job(work: Work, threads: int, scratch: Path) -> Path:
    from benchmarks.peer_ours import job_of

    spec = _spec(work, scratch)
    (scratch / "spec.json").write_text(spec.model_dump_json(), encoding="utf-8")
    job_of(spec, work.steps, scratch, threads).write(scratch / "job.json")
    return scratch


def _spec(work: Work, scratch: Path) -> Any:
    from trainables.data.duplicates import digest_of
    from trainables.spec import Placement, Source, TrialSpec

    def first(path: Path, rows: int) -> Source:
        if not path.is_file():
            raise UserError(f"{path} must be a file with one JSON object a line, but there is none")
        lines = path.read_text(encoding="utf-8").splitlines()[:rows]
        kept = scratch / f"few-{path.name}"
        kept.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return Source(path=kept, sha256=digest_of(kept))

    return TrialSpec(
        name=f"L{work.layers}",
        base=Source(path=work.base.resolve(), sha256=digest_of(work.base / "config.json")),
        train=first(work.train, work.epoch_rows),
        validation=first(work.validation, 1),
        ood=first(work.ood, 1),
        placement=Placement(language=work.layers),
        dropout=0.0,  # others draw other masks, so that losses could not be compared
        quantization=work.quantization,  # type: ignore[arg-type] checked above
        learning_rate=1e-3,
        schedule="constant",
        warmup_ratio=0.0,
        steps=work.steps + 1,  # the clock stops a trial before its last step, which an eval would follow
        eval_every_steps=work.steps + 1,
        batch_rows=work.batch_rows,
    )


def _run(arm: PeerArm, out: Path) -> Trained:
    command = [str(out) if word == "{out}" else word for word in arm.command]
    command += [] if "{out}" in arm.command else [str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)  # noqa: S603
    if done.returncode:
        sys.stderr.write((done.stdout + done.stderr)[-4000:])
        raise InfrastructureError(f"{arm.title} must train the job, but ended with {done.returncode}", "see above")
    return Trained.read(out)


def write(out: Path, found: dict[str, Any]) -> str:
    """Write the figures as JSON beside the page `out`, and the page; return the page.

    Raises:
        CheckFailed: an arm has not done the same work.
    """
    from benchmarks.peer_page import check, page
    from trainables.io.files import write_json, write_text

    write_json(out.with_suffix(".json"), found)
    write_text(out, text := page(found))
    check(found)
    return text


if __name__ == "__main__":
    run(main)
