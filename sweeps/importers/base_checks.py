"""Compares what a configuration says about its base with the base's own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.importers.parsing import ParsedConfig
from trainables.errors import UserError
from trainables.io.files import FileDamaged, read_json

TOKENIZER_FILES = ("special_tokens_map.json", "tokenizer_config.json")  # the second wins, as in transformers
REMOTE_CODE_KEY, TOKENS_KEY, PADDING = "trust_remote_code", "special_tokens", "pad_token"


def check_remote_code(parsed: ParsedConfig, config: Mapping[str, Any]) -> None:
    """Refuse `trust_remote_code: true` for a base whose config.json names code of its own: the tool would run it.

    Raises:
        UserError: names file, line and key.
    """
    trusted = [line for line in parsed.lines if line.key.rsplit(".", 1)[-1] == REMOTE_CODE_KEY and line.value is True]
    own = [line for line in trusted if not line.key.startswith(("datasets", "test_datasets"))]
    if own and config.get("auto_map"):
        code = next(iter(config["auto_map"].values())) if isinstance(config["auto_map"], Mapping) else "auto_map"
        raise UserError(
            f"{parsed.document.path}:{own[0].number}: `{own[0].key}` must be off for a base that brings its own code, "
            f"but it is true, and config.json names `{code}`",
            "use a base that transformers loads by a class of its own, without `auto_map` in its config.json",
        )


def check_special_tokens(parsed: ParsedConfig, base: Path) -> None:
    """Refuse special tokens that are not the base's own; the padding token may be any, because padding is masked.

    Raises:
        UserError: names file, line and key, and both tokens.
    """
    named = parsed.document.values.get(TOKENS_KEY)
    if parsed.tool.name != "axolotl" or not isinstance(named, Mapping):
        return
    own = _tokens_of(base)
    for name, token in named.items():
        if token and name != PADDING and own.get(name) != token:
            raise UserError(
                f"{parsed.document.where(TOKENS_KEY, name)} must be the base's own token, "
                f"`{own.get(name) or 'none'}`, but got `{token}`",
                "remove the key; or save a base with this token and name it with --base",
            )


def _tokens_of(base: Path) -> dict[str, str]:
    tokens: dict[str, str] = {}
    for name in TOKENIZER_FILES:
        try:
            values = read_json(base / name) if (base / name).is_file() else {}
        except FileDamaged as error:
            raise UserError(error.message, "download or save the base again") from None
        for key, value in values.items():
            text = value.get("content") if isinstance(value, Mapping) else value
            if key.endswith("_token") and isinstance(text, str):
                tokens[key] = text
    return tokens
