"""Generates answers of a checkpoint to held-out prompts and checks them; writes JSONL and a run in MLflow.

    python -m trainables.validate --checkpoint-dir runs/stage4/trials/C2-…/best --data-path test.jsonl

Works for any PEFT adapter on a base of a known family. Exit codes: 0 if no answer is dangerous; 3 if one is (the
command itself succeeded); 2 for invalid input, reported before any model is loaded.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from trainables.command import quieten_libraries, run
from trainables.errors import ExitCode, UserError
from trainables.evaluation.answers import Answer, rates
from trainables.evaluation.held_out import (
    AdaptedModel,
    Checkpoint,
    HeldOut,
    Validation,
    check_device,
    check_rows_fit,
    sampled_rows,
    verified_checkpoint,
)
from trainables.io.files import write_text
from trainables.mlflow_store import checked_uri, default_tracking_uri
from trainables.probes.shell.judge import PATTERNS, Pattern, read_patterns
from trainables.typed import typed

NO_STORE = "none"


def print_line(level: str, text: str) -> None:
    """Print one line. `logging` is not used, because MLflow disables existing loggers when it creates a store."""
    typer.echo(f"{level} {text}")


def check_output(output: Path | None, data: Path, checkpoint: Path) -> None:
    """Refuse an output that would overwrite the input; an earlier output file is replaced.

    Raises:
        UserError: the output is the data file, is inside the adapter directory, or cannot be written.
    """
    if output is None:
        return
    try:
        where = output.resolve()
        is_other = where.exists() and not where.is_file()  # a device file, for example
        if where == data.resolve() or is_other or checkpoint.resolve() in where.parents:
            raise UserError(
                f"--output-jsonl must be a separate file, but {output} is no regular file, or the data, or in the "
                "checkpoint directory",
                "for example --output-jsonl validation/results.jsonl",
            )
        _try_to_write(where)
    except OSError as error:
        raise UserError(
            f"--output-jsonl must be writable, but {output} is not: {error}", "choose another file"
        ) from None


def _try_to_write(where: Path) -> None:
    # permission bits are not enough: root ignores them, and the disk may be read-only
    above = next(parent for parent in where.parents if parent.exists())
    if above == where.parent:
        probe = where.with_name(f".{where.name}.tmp")  # the name that `write_text` uses
        probe.touch()
        probe.unlink()
    else:
        with tempfile.TemporaryDirectory(dir=above, prefix="."):
            return


def answer_rows(model: AdaptedModel, held_out: HeldOut, patterns: Sequence[Pattern]) -> list[Answer]:
    """Generate an answer to every row, and print each as soon as it is generated."""
    answers = []
    for number, answer in enumerate(model.answers(held_out.rows, patterns), start=1):
        answers.append(answer)
        print_line("INFO", f"Sample {number}")
        print_line("INFO", f"Instruction: {printable(answer.instruction)}")
        print_line("INFO", f"Generated: {printable(answer.generated)}")
        if answer.dangerous:
            print_line("WARNING", f"Dangerous: {', '.join(answer.dangerous)}")
    return answers


def printable(text: str) -> str:
    """Return a text on one line with control characters escaped; letters of all languages are kept."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def summary(answers: Sequence[Answer]) -> list[tuple[str, str, str]]:
    """Return the rows of the summary table: name, count of total, share."""
    found, count = rates(answers), len(answers)
    commands = sum(one.reference_command_only for one in answers)
    labels = {"exact_match": ("exact match with the reference", count), "dangerous_rate": ("dangerous", count),
            "command_only_rate": ("only a command", commands), "near_empty_rate": ("near-empty", count),
            "degenerate_rate": ("degenerate repetition", count)}  # fmt: skip
    lines = [
        (label, f"{round(found[name] * total)} of {total}", f"{found[name]:.1%}")
        for name, (label, total) in labels.items()
        if name in found
    ]
    cut = sum(not one.ended for one in answers)
    return [*lines, ("cut at the token limit", f"{cut} of {count}", f"{cut / count:.1%}")]


LoadIn4Bit = Annotated[
    bool | None,
    typer.Option(
        "--load-in-4bit/--no-load-in-4bit",
        show_default="as in training, else 4-bit",
        help="Quantize the base with bitsandbytes, also on a CPU.",
    ),
]


def main(  # noqa: PLR0913, PLR0917 one function is the whole command line
    checkpoint_dir: Annotated[Path, typer.Option(help="Adapter directory saved by PEFT.")],
    data_path: Annotated[Path, typer.Option(help="Held-out rows with answers, JSONL.")],
    sample_size: Annotated[int, typer.Option(min=0, help="Rows to sample; 0 uses all.")] = 5,
    output_jsonl: Annotated[
        Path | None, typer.Option(help="File for the answers; replaced if it exists.", show_default="none")
    ] = None,
    load_in_4bit: LoadIn4Bit = None,
    allow_cpu: Annotated[bool, typer.Option("--allow-cpu", help="Run without CUDA.")] = False,
    base: Annotated[Path | None, typer.Option(help="Base model directory.", show_default="the adapter's")] = None,
    seed: Annotated[int, typer.Option(help="Seed for sampling rows; decoding is greedy.")] = 0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum length of an answer, in tokens.")] = 256,
    patterns: Annotated[
        Path | None, typer.Option(help="YAML file with custom patterns of dangerous commands.", show_default="none")
    ] = None,
    experiment: Annotated[
        str, typer.Option(help="MLflow experiment.", show_default="the adapter's, else validation")
    ] = "",
    tracking_uri: Annotated[
        str, typer.Option(help="MLflow tracking URI, or `none`.", show_default="sqlite:///mlflow.db")
    ] = "",
) -> None:  # fmt: skip
    """Generate answers of a checkpoint to held-out prompts, and check them."""
    quieten_libraries()
    uri = None if tracking_uri == NO_STORE else checked_uri(tracking_uri or default_tracking_uri())
    check_output(output_jsonl, data_path, checkpoint_dir)
    check_device(allow_cpu)
    rules = read_patterns(patterns) if patterns else PATTERNS
    held_out = sampled_rows(data_path, sample_size, seed)
    checkpoint = verified_checkpoint(checkpoint_dir, base, load_in_4bit)
    check_rows_fit(held_out, checkpoint.base)
    answers = _answered(checkpoint, held_out, rules, max_new_tokens)
    words = sys.argv[1:]
    command = typed("validate", *(words[1:] if words[:1] == ["validate"] else words))  # called by `footprint validate`
    validation = Validation(checkpoint, held_out, tuple(answers), seed, max_new_tokens, command)
    _save(validation, output_jsonl, uri, experiment)
    _print_table(summary(answers))
    raise typer.Exit(ExitCode.TRIALS_FAILED if any(one.dangerous for one in answers) else ExitCode.DONE)


def _answered(
    checkpoint: Checkpoint, held_out: HeldOut, patterns: Sequence[Pattern], max_new_tokens: int
) -> list[Answer]:
    from trainables.model.base import default_device

    print_line("INFO", f"Checkpoint: {checkpoint.directory} on {checkpoint.base}, {checkpoint.quantization}")
    print_line("INFO", f"Data: {len(held_out.rows)} of {held_out.total} rows of {held_out.path}")
    if caution := held_out.caution(checkpoint.trained):
        print_line("WARNING", f"Held out? {caution}")
    return answer_rows(AdaptedModel.load(checkpoint, default_device(), max_new_tokens), held_out, patterns)


def _save(validation: Validation, output: Path | None, uri: str | None, experiment: str) -> None:
    """Write the answers to the file first, so that an unreachable store loses nothing."""
    from trainables.evaluation.held_out_log import default_experiment, log

    if output is not None:
        try:
            write_text(output, validation.jsonl)
        except OSError as error:  # the disk may have filled up meanwhile
            raise UserError(f"--output-jsonl must be writable, but {output} no longer is: {error}",
                            "every answer is printed above") from None  # fmt: skip
        print_line("INFO", f"Written: {output}")
    if uri is None:
        return
    logged = log(validation, uri, experiment or default_experiment(validation))
    if logged.run_id:
        print_line("INFO", f"MLflow: run {logged.run_id} of experiment {logged.experiment}")
    else:
        print_line("WARNING", f"MLflow: not logged: {logged.outage}")


def _print_table(lines: Sequence[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, side in (("answers", "left"), ("", "right"), ("share", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for line in lines:
        table.add_row(*line)
    Console(highlight=False).print(table)


if __name__ == "__main__":
    run(main)
