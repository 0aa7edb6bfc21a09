"""Where a pass can start, and under which key activations are kept; pure functions.

Two rows share activations only if everything that decides them is equal. A key is therefore a SHA-256 over all of it,
and nothing is ever changed in place: another base, library, template or picture leads to another key.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

from trainables.model.families import TowerName

Differing = Mapping[TowerName, Sequence[frozenset[int]]]  # the members that differ from the base, block by block


@dataclass(frozen=True)
class Cut:
    """A place in a tower: the input of block `block`, or the output of the tower if it has no such block."""

    tower: TowerName
    block: int


@dataclass(frozen=True)
class Facts:
    """What decides the activations of a base, beside the row: each as text, digests of what is long.

    Attributes:
        weights: digest of all tensors as loaded, with their quantization state, names, types and shapes.
        layers: digest of the classes of all modules and of what they compute in.
        configuration: digest of the model's configuration, which has the DeepStack taps and the image token.
        attention: the implementation of attention, by tower.
        device: type and model of the device; on a CPU its instruction set and the number of threads.
        arithmetic: the global settings of torch that change a sum.
        versions: of the libraries that compute.
        code: digest of our own code that computes activations.
    """

    weights: str
    layers: str
    configuration: str
    attention: str
    device: str
    arithmetic: str
    versions: str
    code: str


def first_differing(blocks: Sequence[frozenset[int]], members: frozenset[int]) -> int:
    """Return the first block in which one of `members` differs from the base; the number of blocks if there is none."""
    return next((number for number, those in enumerate(blocks) if those & members), len(blocks))


def cut_of(differing: Differing, members: frozenset[int], has_pictures: bool, taps: int) -> Cut | None:
    """Return the highest place below which all `members` compute the same as the base; None where nothing is below it.

    DeepStack adds features of pictures to the outputs of the first `taps` language blocks. Below the last of them, and
    where a member adapts the vision tower, only the vision tower's own activations can be kept.
    """
    language = first_differing(differing["language"], members)
    if not has_pictures:
        return Cut("language", language) if language else None
    vision, blocks = first_differing(differing["vision"], members), len(differing["vision"])
    if vision == blocks and language >= max(1, taps):
        return Cut("language", language)
    return Cut("vision", vision) if vision else None


def picture_cut(differing: Differing, members: frozenset[int]) -> Cut | None:
    """Return the highest such place in the vision tower."""
    vision = first_differing(differing["vision"], members)
    return Cut("vision", vision) if vision else None


def trunk_key(facts: Facts, cut: Cut) -> str:
    """Return the key of everything but the row, as 64 hexadecimal digits."""
    return sha256(json.dumps([asdict(facts), cut.tower, cut.block], sort_keys=True).encode()).hexdigest()


def picture_key(pixels: bytes | memoryview, grid: Sequence[int], kind: str) -> str:
    """Return the key of one processed picture: its values, their type `kind`, and its patches by time and side."""
    digest = sha256(json.dumps([kind, list(grid)]).encode())
    digest.update(pixels)
    return digest.hexdigest()


def row_key(tokens: Sequence[int], pictures: Sequence[str], positions: Sequence[int] | None = None) -> str:
    """Return the key of a row: its tokens, and its pictures in order by their keys.

    Positions follow from both, as the model's own code computes them, unless they are given.
    """
    digest = sha256(array("q", tokens).tobytes())
    digest.update(json.dumps([list(pictures), None if positions is None else list(positions)]).encode())
    return digest.hexdigest()
