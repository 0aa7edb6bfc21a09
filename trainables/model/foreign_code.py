"""Refuses a base whose configuration names code on the hub: transformers downloads a kernel and runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainables.errors import UserError, named, quoted

IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")


def check_names_no_kernel(config: Mapping[str, Any], path: Path) -> None:
    """Check that no part of a configuration chooses an implementation that is a repository on the hub.

    Raises:
        UserError: names file, key and value.
    """
    for key, value in _implementations(config):
        if "/" in value:
            raise UserError(
                f"{path}: `{named(key)}` must be an implementation of transformers, such as sdpa, but got "
                f"{quoted(value)}, which would be downloaded and run",
                "remove the key: which implementation computes a base is no part of its weights",
            )


def _implementations(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    waiting: list[Mapping[str, Any]] = [config]  # no recursion: a hostile file may nest deep
    while waiting:
        for key, value in waiting.pop().items():
            chosen = value.values() if isinstance(value, dict) and key.endswith(IMPLEMENTATIONS) else (value,)
            if key.endswith(IMPLEMENTATIONS):
                yield from ((key, one) for one in chosen if isinstance(one, str))
            elif isinstance(value, dict):
                waiting.append(value)
