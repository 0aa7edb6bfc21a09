"""The files of a base that decide a result, and their digest: weights, configuration, tokenizer, templates, processors.

Other files do not count: a README, `generation_config.json` (evals decode greedily), optimizer states, weights in other
formats than safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import get_args

from trainables.errors import UserError
from trainables.io.checksums import OnRead, bytes_to_read, sha256_of_files
from trainables.spec import Format, Source

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
CONFIGURATION = ("config.json", "adapter_config.json")  # transformers attaches an adapter that lies beside the weights
TOKENIZER = ("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges*.txt", "*.model",
             "*.tiktoken", "tekken.json")  # fmt: skip
TEMPLATES = ("*.jinja", "chat_template*.json", "additional_chat_templates/*.jinja")
PROCESSORS = ("*processor_config.json",)  # of images, videos and both
DECIDING = (*WEIGHTS, *CONFIGURATION, *TOKENIZER, *TEMPLATES, *PROCESSORS)
STATES = ("optimizer", "scheduler", "random_states", "rng_state")  # of a training run, by the start of their names

EDGES_WHOLE_BYTES = 64 * 2**20
EDGE_BYTES = 2**20


def deciding_files(base: Path) -> dict[str, Path]:
    """Return the files that decide a result, by their names relative to the base, sorted."""
    found = {path.relative_to(base).as_posix(): path for pattern in DECIDING for path in base.glob(pattern)}
    return {
        name: path
        for name, path in sorted(found.items())
        if path.is_file() and not name.startswith((*STATES, "."))
    }  # fmt: skip


def file_digests(base: Path, on_read: OnRead | None = None) -> dict[str, str]:
    """Return the SHA-256 of every deciding file by its name; unchanged weights are not read again."""
    files = deciding_files(base)
    return dict(zip(files, sha256_of_files(files.values(), on_read), strict=True))


def bytes_to_hash(base: Path) -> int:
    """Return how many bytes `file_digests` would read."""
    return bytes_to_read(deciding_files(base).values())


def base_digest(base: Path, spec_format: Format, on_read: OnRead | None = None) -> str:
    """Return the digest of a base as specs of a format hold it.

    Raises:
        UserError: the directory or its config.json is missing, or a file cannot be read.
    """
    if not (base / "config.json").is_file():
        raise UserError(f"a base must be a directory with config.json, but {base} has no config.json", "check the path")
    try:
        return _edges_digest(base) if spec_format == 1 else digest_of_files(file_digests(base, on_read))
    except OSError as error:
        raise UserError(
            f"every file of a base must be readable, but {error.filename or base} is not: {error.strerror}"
        ) from None


def digest_of_files(digests: Mapping[str, str]) -> str:
    """Return the digest of a base from those of its files."""
    return sha256("".join(f"{name}\x00{digest}\n" for name, digest in sorted(digests.items())).encode()).hexdigest()


def is_same_base(recorded: str, base: Source) -> bool:
    """Return True when a recorded digest of any format is that of `base`."""
    if recorded == base.sha256:
        return True
    known = (base.path / "config.json").is_file()
    return known and recorded in {base_digest(base.path, one) for one in get_args(Format)}


def _edges_digest(base: Path) -> str:
    """Return the digest of format 1: configuration and weights; of a large weight file only size, start and end."""
    digest = sha256((base / "config.json").read_bytes())
    for path in sorted(base.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}\x00{size}\x00".encode())
        with path.open("rb") as file:
            if size <= EDGES_WHOLE_BYTES:
                digest.update(file.read())
                continue
            digest.update(file.read(EDGE_BYTES))
            file.seek(-EDGE_BYTES, 2)
            digest.update(file.read(EDGE_BYTES))
    return digest.hexdigest()
