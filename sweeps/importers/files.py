"""Detects the tool of a configuration and finds its files, relative to it or to the working directory."""

from __future__ import annotations

from pathlib import Path

from sweeps.importers.axolotl import AXOLOTL
from sweeps.importers.llamafactory import LLAMAFACTORY
from sweeps.importers.parsing import ParsedConfig
from sweeps.importers.rules import Tool
from sweeps.importers.swift import SWIFT
from trainables.data.dataset_info import TABLE, locate
from trainables.errors import UserError, nearest
from trainables.io.strict_yaml import Document
from trainables.local_paths import local_path

V1_KEYS = ("peft_config", "train_dataset", "model_class", "kernel_config", "dist_config", "quant_config")
TOOLS = {tool.name: tool for tool in (AXOLOTL, SWIFT, LLAMAFACTORY)}


def tool_of(document: Document, forced: str | None = None) -> Tool:
    """Return the tool of a file, detected by its keys for base and method.

    Raises:
        UserError: the file has no such key, or keys of several tools.
    """
    v1 = next((key for key in V1_KEYS if key in document.values), None)
    if v1 and forced in (None, LLAMAFACTORY.name):
        raise UserError(
            f"{document.where(v1)} is a key of LLaMA-Factory's v1 format, which is not read: a configuration of "
            "LLaMA-Factory must have the keys of 0.9",
            "write model_name_or_path, finetuning_type: lora, lora_rank, lora_target, dataset and so on",
        )
    if forced:
        if forced not in TOOLS:
            raise UserError(f"--format must be one of {', '.join(TOOLS)}, but got `{forced}`", nearest(forced, TOOLS))
        return TOOLS[forced]
    found = {tool.name: [key for key in tool.signs if key in document.values] for tool in TOOLS.values()}
    named = {name: keys for name, keys in found.items() if keys}
    if len(named) == 1:
        return TOOLS[next(iter(named))]
    if not named:
        signs = "; ".join(f"{tool.name}: {', '.join(tool.signs)}" for tool in TOOLS.values())
        raise UserError(f"{document.path}: one key must identify the tool, but there is none of {signs}",
                        "pass --format axolotl, ms-swift or llamafactory")  # fmt: skip
    found_keys = "; ".join(f"`{keys[0]}` of {name} (line {document.lines[(keys[0],)]})" for name, keys in named.items())
    raise UserError(f"{document.path}: keys must be those of one tool, but there are {found_keys}",
                    f"pass --format {' or '.join(named)}")  # fmt: skip


def base_of(parsed: ParsedConfig) -> str:
    """Return the base as a directory if it exists, else as written: a hub name."""
    written = parsed.fields["base"]
    found = _existing(parsed.document.path, written)
    return str(found) if found else written


def rows_of(parsed: ParsedConfig, field: str) -> Path:
    """Return the file of rows that `train` or `validation` names.

    Raises:
        UserError: the file does not exist or is empty; names the key.
    """
    written = parsed.fields[field]
    written = written["path"] if isinstance(written, dict) else written
    if _existing(parsed.document.path, written) is None and "#" in written:
        raise parsed.error(
            field, f"must name a whole file, but `{written}` takes rows of `{written.partition('#')[0]}`",
            "write these rows to a file, or give the rows with --train and --val",
        )  # fmt: skip
    if parsed.tool.name == "llamafactory":
        return _of_table(parsed, field, written)
    found = _existing(parsed.document.path, written)
    if found is None or not found.is_file():
        raise parsed.error(
            field, f"must name a file of rows, but there is no file `{written}` in the working directory or next to "
            "the configuration",
            "download the rows as JSONL and name the file; or give it with --train and --val",
        )  # fmt: skip
    if not found.read_bytes()[:4096].strip():
        raise parsed.error(field, f"must name a file with rows, but {found} is empty")
    return found


def adapter_of(parsed: ParsedConfig) -> Path:
    """Return the directory of the adapter that the file continues."""
    written = parsed.fields["init_from"]
    return _existing(parsed.document.path, written) or Path(written)


def _of_table(parsed: ParsedConfig, field: str, name: str) -> Path:
    directory = parsed.value("dataset_dir")
    table = _existing(parsed.document.path, f"{directory}/{TABLE}")
    if table is None:
        raise parsed.error(
            field, f"must be an entry of {directory}/{TABLE}, but there is no such table next to the configuration "
            "or in the working directory", "name the directory in dataset_dir; or give the rows with --train and --val",
        )  # fmt: skip
    path = Path(f"{table}:{name}")
    try:
        file = locate(path).file
    except UserError as error:
        raise parsed.error(field, f"must be an entry that can be read: {error.message}", error.hint) from None
    if not file.is_file() or not file.read_bytes()[:4096].strip():
        raise parsed.error(field, f"must name a file with rows, but {file} has none")
    return path


def _existing(document: Path, written: str) -> Path | None:
    own = local_path(written, f"{document}: what a key names").expanduser()
    candidates = [own] if own.is_absolute() else [document.resolve().parent / own, Path.cwd() / own]
    return next((path for path in candidates if path.exists()), None)
