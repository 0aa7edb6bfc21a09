"""What an adapter directory leads to: the trial that trained it, if it was one of ours, and the base it lies on."""

from __future__ import annotations

from pathlib import Path

from trainables.checkpoints.adapter_config import ADAPTER_CONFIG, read_adapter_config
from trainables.checkpoints.lineage import Trained
from trainables.errors import UserError, named

BASE_HINT = "pass --base DIR with the model it was trained on"


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
