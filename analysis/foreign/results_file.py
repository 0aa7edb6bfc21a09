"""Reads a CSV or JSON file of results, one row or object for each run."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from analysis.foreign.columns import ColumnMap, ForeignRow, experiment_of_rows, number_in
from analysis.mlflow_runs import ExperimentRuns
from trainables.errors import UserError, named, nearest
from trainables.io.jsonl import objects

TABLES = {".csv": ",", ".tsv": "\t"}
DOCUMENTS = (".json", ".jsonl")
READABLE = "a CSV with a header, a JSON array of objects, JSONL, or a directory of such JSON files"

Located = tuple[str, Mapping[str, Any]]  # file and line, and the values by column


def read_results_file(path: Path, columns: ColumnMap) -> ExperimentRuns:
    """Read the results in a file, or in the JSON files of a directory.

    A column of JSON may name a value inside of objects and lists: `train_info.metrics.-1.test accuracy`.

    Raises:
        UserError: the file cannot be read or has no row, a column is missing, or a number is text, NaN or empty;
            names file, line and column.
    """
    located = list(_located(path))
    if not located:
        raise UserError(f"{path}: results must have at least one row, but there is none", f"--from reads {READABLE}")
    rows = [_row(number, where, values, columns) for number, (where, values) in enumerate(located, start=1)]
    return experiment_of_rows(path.stem or path.name, columns, rows)


def _located(path: Path) -> Iterator[Located]:
    if path.is_dir():
        for file in sorted(one for one in path.iterdir() if one.suffix in DOCUMENTS):
            yield from _documents(file)
    elif not path.is_file():
        raise UserError(f"--from must be a file of results, but {path} does not exist", "check the path")
    elif path.suffix.lower() in TABLES:
        yield from _table(path)
    elif path.suffix.lower() in DOCUMENTS:
        yield from _documents(path)
    else:
        raise UserError(f"--from must end in .csv, .tsv, .json or .jsonl, but got {path.name}",
                        f"--from reads {READABLE}")  # fmt: skip


def _table(path: Path) -> Iterator[Located]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=TABLES[path.suffix.lower()], strict=True)
            header = reader.fieldnames or ()
            repeated = [name for name in header if header.count(name) > 1]
            if repeated:
                raise UserError(f"{path}:1: a column must be named once, but `{named(repeated[0])}` is there twice",
                                "rename one of them")  # fmt: skip
            for values in reader:
                where = f"{path}:{reader.line_num}"
                if None in values or None in values.values():
                    raise UserError(f"{where}: a row must have the {len(header)} columns of the header, but has "
                                    f"{'more' if None in values else 'fewer'}",
                                    "put quotation marks around values that contain a comma")  # fmt: skip
                yield where, values
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: a CSV must be UTF-8, but {error}", "save it as UTF-8") from None
    except (csv.Error, OSError) as error:
        raise UserError(f"{path}: a CSV must be readable, but {error}", f"--from reads {READABLE}") from None


def _documents(path: Path) -> Iterator[Located]:
    for line, values in objects(path):
        if isinstance(values, UserError):
            raise values
        yield f"{path}:{line}", values


def _row(number: int, where: str, values: Mapping[str, Any], columns: ColumnMap) -> ForeignRow:
    numbers = {one.name: number_in(_found(values, one.name, where), f"{where}: column `{one.name}`")
               for one in columns.objectives}  # fmt: skip
    texts = {}
    for column in filter(None, (columns.label, columns.seed, columns.group)):
        value = _found(values, column, where)
        if not isinstance(value, str | int | float) or str(value).strip() == "":
            raise UserError(f"{where}: column `{column}` must be a text or a number, but it is empty or a list",
                            "name another column with --map, or fill it")  # fmt: skip
        texts[column] = str(value)
    return ForeignRow(str(number), numbers, texts)


def _found(values: Mapping[str, Any], column: str, where: str) -> Any:
    """Return the value of a column, or the value inside of objects and lists that a dotted name leads to."""
    if column in values:
        return values[column]
    found: Any = values
    for part in column.split("."):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.lstrip("-").isdecimal() and -len(found) <= int(part) < len(found):
            found = found[int(part)]
        else:
            known = [key for key in found if isinstance(key, str)] if isinstance(found, Mapping) else []
            gone = "it" if part == column else f"`{named(part)}`"
            raise UserError(f"{where}: there must be a column `{named(column)}`, but {gone} is missing",
                            nearest(part, known) if known else "name another column with --map")  # fmt: skip
    return found
