"""Finds the configuration of a base without its weights: a directory, a file, or a cached model id."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import UserError
from trainables.model.families import Family, read_configuration
from trainables.model.families.family import Config, Shapes, Towers
from trainables.model.stored_base import described, read_base

DIRECTORY_HINT = (
    "pass --base DIR with the model's config.json, or the path of that file; on a machine with network access "
    "`hf download {} config.json --local-dir DIR` fetches it"
)


@dataclass(frozen=True)
class NamedBase:
    """A base as the user named it, with what its configuration says; `has_weights` says whether these were compared."""

    name: str
    config_path: Path
    family: Family
    config: Config
    weights: Shapes
    towers: Towers
    has_weights: bool


def find_base(base: str) -> NamedBase:
    """Return the family and configuration of a base; weights beside it are compared, and never needed.

    Raises:
        UserError: there is no such configuration here, its family is unknown, or it contradicts its weights.
    """
    path = config_file(base)
    family, config = read_configuration(path)
    has_weights = any(path.parent.glob("*.safetensors"))
    if has_weights:
        read_base(path.parent)
    weights, towers = described(path.parent, family, config)
    return NamedBase(base, path, family, config, weights, towers, has_weights)


def config_file(base: str) -> Path:
    """Return the config.json of a directory, of a file, or of a model id in the hub's cache; downloads nothing.

    Raises:
        UserError: there is none.
    """
    path = Path(base).expanduser()
    if path.is_dir():
        path = path / "config.json"
    if path.is_file():
        return path
    if path.exists() or path.name == "config.json" or base.count("/") != 1 or base.startswith((".", "~", os.sep)):
        raise UserError(
            f"--base must be a directory with config.json, that file, or a model id of the hub, but got {base}",
            "pass --base DIR with the model's config.json",
        )
    return _cached(base)


def _cached(model_id: str) -> Path:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model_id, "config.json")
    except HFValidationError:
        found = None
    if not isinstance(found, str):
        raise UserError(
            f"a model id must have its config.json in the hub's cache, for nothing is downloaded here, but {model_id} "
            "has none",
            DIRECTORY_HINT.format(model_id),
        )
    return Path(found)
