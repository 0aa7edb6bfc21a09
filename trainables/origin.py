"""What an adapter directory leads to: the trial that trained it, if it was one of ours, and the base it lies on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.adapter_config import ADAPTER_CONFIG, read_adapter_config, read_object
from trainables.errors import UserError
from trainables.quoted import named, quoted
from trainables.record import Record, RecordDamaged
from trainables.spec import TrialSpec, parse_spec

PROVENANCE = "provenance.json"
BASE_HINT = "pass --base DIR with the model it was trained on"
COPY_HINT = "copy it again from where the adapter was trained, or delete it: the adapter alone can be used"


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
        return _told_by(path)
    record, step = Record(directory.resolve().parent.parent), directory.name.removeprefix("step-")
    if directory.name == step or not step.isdecimal() or not (record.directory / "spec.json").is_file():
        return None
    try:
        return Trained(record.spec(), int(step), experiment_of(record))
    except RecordDamaged as error:  # input here, not a record to resume
        raise UserError(error.message, "copy the adapter's directory elsewhere: it can be used alone") from None


def _told_by(path: Path) -> Trained | None:
    kept = read_object(path, COPY_HINT)
    if "spec" not in kept:  # other tools leave files of this name too
        return None
    step, experiment = kept.get("step"), kept.get("experiment")
    if not isinstance(step, int) or not isinstance(experiment, str | None):
        raise UserError(
            f"{path}: `step` must be a whole number and `experiment` a text, but got {quoted((step, experiment))}",
            COPY_HINT,
        )
    return Trained(parse_spec(kept["spec"], where=str(path)), step, experiment)


def experiment_of(record: Record) -> str | None:
    """Return the experiment a record lies in, `<storage>/<experiment>/trials/<trial>`, None where it lies elsewhere."""
    trials = record.directory.resolve().parent
    return trials.parent.name if trials.name == "trials" else None


def named_base(directory: Path) -> str | None:
    """Return the base that PEFT wrote into an adapter's configuration, a path or a name on the hub.

    Raises:
        UserError: the configuration is none.
    """
    return read_adapter_config(directory).get("base_model_name_or_path") or None


def chosen_base(directory: Path, base: Path | None, trained: Trained | None = None) -> Path:
    """Return the directory of the base to put an adapter on: `base`, the one it names, or that of its trial.

    Raises:
        UserError: it names none, or that one is not here; nothing is downloaded.
    """
    name = str(base) if base is not None else named_base(directory) or (str(trained.spec.base.path) if trained else "")
    if not name:
        raise UserError(
            f"{directory / ADAPTER_CONFIG}: `base_model_name_or_path` must name the base, but it is null or empty",
            BASE_HINT,
        )
    return base_directory(name)


def base_name(base: Path) -> str:
    """Return `owner/name` of a snapshot in the hub's cache, of any other directory its own name."""
    cached = next((part for part in base.parts if part.startswith("models--")), None)
    return "/".join(cached.split("--")[1:]) if cached else base.resolve().name


def base_directory(name: str) -> Path:
    """Return the directory of a base that is named by its path, or by its name on the hub where it was downloaded.

    Raises:
        UserError: it is neither; nothing is downloaded.
    """
    found = _found(name)
    if found is None:
        raise UserError(
            "the base must be a directory with config.json, or a model downloaded from the hub, but "
            f"{named(name)} is neither",
            BASE_HINT,
        )
    return found


def _found(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        if (path / "config.json").is_file():
            return path.resolve()
        is_name = name.count("/") == 1 and not path.exists()
    except (OSError, RuntimeError):  # longer than a path can be; the home of nobody
        return None
    return _downloaded(name) if is_name else None


def _downloaded(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
