"""Finds the base model directory of an adapter."""

from __future__ import annotations

import re
from pathlib import Path

from trainables.checkpoints.adapter_config import read_adapter_config
from trainables.checkpoints.lineage import Origin
from trainables.errors import UserError, named
from trainables.local_paths import local_path
from trainables.model.peft_files import ADAPTER_CONFIG

# what publishers append to the name of a quantized copy of a model
QUANTIZED_COPY = re.compile(r"(-unsloth)?(-bnb)?-(4bit|8bit|int4|int8|awq|gptq|nf4|fp8)(-.*)?$", re.IGNORECASE)
BASE_HINT = "pass --base DIR with the model it was trained on"


def named_base(directory: Path) -> str | None:
    """Return the base named in an adapter's configuration, a path or a hub name.

    Raises:
        UserError: the configuration is invalid.
    """
    return read_adapter_config(directory).get("base_model_name_or_path") or None


def chosen_base(directory: Path, base: Path | None, origin: Origin | None = None) -> Path:
    """Return the base directory of an adapter: `base`, else the base it names, else that of its trial.

    Raises:
        UserError: no base is named, or it is not on this machine; nothing is downloaded.
    """
    name = str(base) if base is not None else named_base(directory) or (str(origin.spec.base.path) if origin else "")
    if not name:
        raise UserError(
            f"{directory / ADAPTER_CONFIG}: `base_model_name_or_path` must name the base, but it is null or empty",
            BASE_HINT,
        )
    return base_directory(name)


def hub_name(base: Path) -> str | None:
    """Return `owner/name` of a snapshot in the hub's cache, None for any other directory."""
    cached = next((part for part in base.parts if part.startswith("models--")), None)
    return "/".join(cached.split("--")[1:]) if cached else None


def base_name(base: Path) -> str:
    """Return the hub name of a base, or the name of its directory if it is not in the hub's cache."""
    return hub_name(base) or base.resolve().name


def is_copy_by_name(name: str, base: Path) -> bool:
    """Return True if a name is that of the base up to its owner and the mark of a quantized copy, as `-bnb-4bit`."""
    return _bare_name(name) == _bare_name(base_name(base))


def _bare_name(name: str) -> str:
    bare = name.rstrip("/").rsplit("/", 1)[-1].casefold().removeprefix("meta-")
    return QUANTIZED_COPY.sub("", bare)


def base_directory(name: str) -> Path:
    """Return the directory of a base, given by its path or by the hub name of a downloaded model.

    Raises:
        UserError: there is no such directory or download; nothing is downloaded.
    """
    local_path(name, "a base")
    found = _found(name)
    if found is None:
        raise UserError(
            "the base must be a directory with config.json, or a model downloaded from the hub, but "
            f"{named(name)} is neither{_as_copy(name)}",
            BASE_HINT,
        )
    return found


def _as_copy(name: str) -> str:
    copied = name.rsplit("/", 1)[-1]
    bare = QUANTIZED_COPY.sub("", copied)
    if bare.casefold() == copied.casefold() or not bare:
        return ""
    return f"; it is named as a quantized copy of {named(bare)}, which is the same base"


def _found(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        if (path / "config.json").is_file():
            return path.resolve()
        is_name = name.count("/") == 1 and not path.exists()
    except (OSError, RuntimeError):  # too long for a path; `~user` of an unknown user
        return None
    return _downloaded(name) if is_name else None


def _downloaded(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
