"""What an adapter directory leads to: the trial that trained it, if it was one of ours, and the base it lies on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.errors import UserError
from trainables.record import Record, read_json
from trainables.spec import TrialSpec, parse_spec

ADAPTER_CONFIG, PROVENANCE = "adapter_config.json", "provenance.json"


@dataclass(frozen=True)
class Trained:
    """The trial an adapter comes from, at which step, and the experiment it belongs to, None where that is unknown."""

    spec: TrialSpec
    step: int
    experiment: str | None


def trained_by(directory: Path) -> Trained | None:
    """Return what the `provenance.json` of an adapter says, or the record it is a checkpoint of; None says neither.

    Raises:
        UserError: a file that is there cannot be read.
    """
    path = directory / PROVENANCE
    if path.is_file():
        kept = read_json(path)
        if "spec" not in kept:  # other tools leave files of this name too
            return None
        return Trained(parse_spec(kept["spec"], where=str(path)), kept["step"], kept.get("experiment"))
    record, step = Record(directory.resolve().parent.parent), directory.name.removeprefix("step-")
    if directory.name != step and step.isdecimal() and (record.directory / "spec.json").is_file():
        return Trained(record.spec(), int(step), experiment_of(record))
    return None


def experiment_of(record: Record) -> str | None:
    """Return the experiment a record lies in, `<storage>/<experiment>/trials/<trial>`, None where it lies elsewhere."""
    trials = record.directory.resolve().parent
    return trials.parent.name if trials.name == "trials" else None


def named_base(directory: Path) -> str | None:
    """Return the base that PEFT wrote into an adapter's configuration, a path or a name on the hub."""
    return read_json(directory / ADAPTER_CONFIG).get("base_model_name_or_path")


def base_name(base: Path) -> str:
    """Return `owner/name` of a snapshot in the hub's cache, of any other directory its own name."""
    cached = next((part for part in base.parts if part.startswith("models--")), None)
    return "/".join(cached.split("--")[1:]) if cached else base.resolve().name


def base_directory(name: str) -> Path:
    """Return the directory of a base that is named by its path, or by its name on the hub where it was downloaded.

    Raises:
        UserError: it is neither; nothing is downloaded.
    """
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return path.resolve()
    found = _downloaded(name) if name.count("/") == 1 and not path.exists() else None
    if found is None:
        raise UserError(
            f"the base must be a directory with config.json, or a model downloaded from the hub, but {name} is neither",
            "pass --base DIR with the model it was trained on",
        )
    return found


def _downloaded(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
