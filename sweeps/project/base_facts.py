"""What a project must know of its base: whether it sees, its layers, how its weights are stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sweeps.importers.config import MINIATURES
from sweeps.planning.sources import locate_base
from sweeps.study import World
from trainables.errors import UserError

QUICK_BYTES = 1_000_000_000  # weights with which a processor answers a hundred questions in minutes


@dataclass(frozen=True)
class BaseFacts:
    """A base: its name on a command line, empty for a miniature, its directory, and what config.json says."""

    name: str
    directory: Path
    sees: bool
    layers: int
    quantization: str
    weight_bytes: int
    world: World | None = None

    @property
    def is_miniature(self) -> bool:
        """Return True for a base that the package ships."""
        return self.world is not None

    @property
    def is_quick(self) -> bool:
        """Return True if the base is small enough to be asked right away, on any machine."""
        return self.weight_bytes <= QUICK_BYTES


def facts_of(base: str) -> BaseFacts:
    """Return the facts of `mini`, `mini-text`, a directory, or a model of the hub, which is downloaded.

    Raises:
        UserError: there is no such base, no trial can read it, or it has no chat template.
    """
    from trainables.model.base import load_tokenizer
    from trainables.model.stored_base import described, read_base

    world = MINIATURES.get(base)
    directory = locate_base(None if world else base, world or "pictures")
    stored = read_base(directory)
    if not load_tokenizer(directory).chat_template:
        raise UserError(
            f"a base must have a chat template, but the tokenizer of {directory} has none",
            "use its instruction-tuned variant, or copy that one's chat_template.jinja into the directory",
        )
    _, towers = described(directory, stored.family, stored.config)
    weights = sum(one.stat().st_size for one in directory.glob("*.safetensors"))
    name = "" if world else str(directory) if Path(base).expanduser().exists() else base
    layers = len(towers["language"])
    return BaseFacts(name, directory, stored.family.sees, layers, stored.quantization, weights, world)
