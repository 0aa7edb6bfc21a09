"""Writes a project and says which commands come next."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeps.cli.studies import line_of_study
from sweeps.cli.study_file import SCHEMA_FILE, schema, written
from sweeps.execution.options import experiment_directory
from sweeps.project.choices import Choices
from sweeps.project.files import OOD, OPEN, DataFiles, new_directory, write_data
from sweeps.project.study_of_base import study_for
from sweeps.study import Study
from trainables.errors import UserError
from trainables.io.files import write_text
from trainables.spec import Quantization
from trainables.typed import typed

STUDY_FILE, DEFAULT_QUANTIZATION = "study.yaml", "nf4-double"
FEW_KEPT = 30  # questions below which a test hardly sees a loss


def write_project(directory: Path, choices: Choices, asks_base: bool, say: Callable[[str], None]) -> None:
    """Write the files of a project into a new directory, and print the commands to type.

    Raises:
        UserError: something given is wrong; nothing is written.
    """
    quantization: Quantization = "nf4-double" if choices.base.quantization == "none" else choices.base.quantization  # type: ignore[assignment]
    study = study_for(choices.base)
    with new_directory(directory) as fresh:
        files = write_data(fresh, choices, quantization if asks_base else None, say)
        text, scheme = _study_file(study, _options(directory, choices, files, quantization))
        write_text(fresh / STUDY_FILE, text)
        write_text(fresh / SCHEMA_FILE, scheme)
    shown = _shown(directory)
    for line in (*_summary(shown, files), "", *_commands(shown, study, choices, files, quantization)):
        say(line)


def _options(directory: Path, choices: Choices, files: DataFiles, quantization: Quantization) -> dict[str, Any]:
    """Return the options of the study file by the names of their parameters."""
    values: dict[str, Any] = {"experiment": experiment_of(directory, study_for(choices.base))}
    if choices.base.name:
        values["base"] = choices.base.name
    values |= {"train": files.train, "val": files.validation, "ood": Path(OOD)}
    if choices.epochs:
        values["epochs"] = choices.epochs
    if quantization != DEFAULT_QUANTIZATION:
        values["quant"] = quantization
    return values


def experiment_of(directory: Path, study: Study) -> str:
    """Return a name for the experiment: that of the directory, as far as it can be one."""
    name = re.sub(r"[^\w.-]+", "-", directory.name).strip("-.")
    try:
        experiment_directory(Path("runs"), name)
    except UserError:
        return study.name
    return name or study.name


def _study_file(study: Study, values: dict[str, Any]) -> tuple[str, str]:
    line = replace(line_of_study(study.name), study=study, program=f"footprint {study.name}")
    given = [one for one in line.parameters() if one.name in values]
    return written(line, values, given), schema(line)


def _summary(directory: Path, files: DataFiles) -> Iterator[str]:
    yield f"written: {directory / STUDY_FILE}, the study"
    split_off = "" if files.validation.is_absolute() else ", which no trial trains on"
    yield f"  training rows: {files.train_rows:,}; validation rows: {files.validation_rows:,}{split_off}"
    kinds = Counter(str(row["kind"]) for row in files.kept.rows)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    yield f"  rows of what the model must keep: {counts} ({directory / (OPEN if files.is_open else OOD)})"
    kept = files.kept
    if kept.answered:
        yield f"  {kept.answered:,} of them have the base's own answer"
    if kept.wrong or kept.cut:
        yield (f"  left out: {kept.wrong:,} that the base answers wrongly, {kept.cut:,} whose answer is too long; it "
               "cannot lose what it cannot do")  # fmt: skip
    if kinds["text"] < FEW_KEPT:
        yield f"  fewer than {FEW_KEPT} questions show large losses alone; --keep FILE names more"


def _commands(
    directory: Path, study: Study, choices: Choices, files: DataFiles, quantization: Quantization
) -> Iterator[str]:
    config = shlex.quote(str(directory / STUDY_FILE))
    experiment = shlex.quote(experiment_of(directory, study))
    yield "Next, one after the other:"
    if files.is_open:
        words = ["answer", "--base", str(choices.base.directory), "--ood",
                 str(directory / OPEN), "--out", str(directory / OOD), "--quantization", quantization]  # fmt: skip
        yield f"  {typed('data', *words)}  # the base's own answers"
    yield f"  footprint {study.name} --config {config} --dry-run  # the plan; nothing is trained"
    yield f"  footprint {study.name} --config {config}"
    yield f"  footprint pareto --experiment {experiment}  # fit against what was kept"
    yield f"  footprint ship --experiment {experiment} --out {shlex.quote(str(directory / 'adapter'))}"


def _shown(directory: Path) -> Path:
    """Return a directory as it is typed from here."""
    here = Path.cwd()
    return directory.relative_to(here) if directory.is_relative_to(here) and directory != here else directory
