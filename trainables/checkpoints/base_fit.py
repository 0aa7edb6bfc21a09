"""Checks a saved adapter against the base it is to be continued on: PEFT must load all of it, and change nothing else.

PEFT raises no error for a tensor that it does not load, or for a target without a tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from trainables.checkpoints.adapter import SavedAdapter
from trainables.checkpoints.names import explained
from trainables.checkpoints.tensor_file import Tensor, are_equal, read_tensors
from trainables.errors import UserError, named
from trainables.model.families import TOWERS, family_of
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

HEAD = "lm_head"
SHOWN_MODULES = 3


def check_fits_base(saved: SavedAdapter, base: Path) -> None:
    """Refuse an adapter that PEFT would load in part, or with which it would change tensors of the base.

    Raises:
        UserError: names the modules or tensors and the file; or the base is of no known family.
    """
    linears = linear_names(base)
    _check_names(saved, linears)
    _check_targets(saved, linears, base)
    _check_base_tensors(saved, base)


def linear_names(base: Path) -> frozenset[str]:
    """Return the names of all linear layers of a base, from its configuration."""
    family, config = family_of(base)
    towers = family.towers(config)
    in_blocks = (linear.name for tower in TOWERS for block in towers[tower] for linear in block)
    return frozenset([*in_blocks, *family.outside(config), HEAD])


def _check_names(saved: SavedAdapter, linears: frozenset[str]) -> None:
    unknown = [name for name in saved.modules if name not in linears]
    if unknown:
        raise UserError(
            f"{saved.directory / ADAPTER_WEIGHTS}: every module must be a linear layer of the base, and PEFT leaves "
            f"out others without an error, but {_listed(unknown)} {'is' if len(unknown) == 1 else 'are'} not",
            explained(unknown, linears) or "pass the base that it was trained on",
        )


def _check_targets(saved: SavedAdapter, linears: frozenset[str], base: Path) -> None:
    if saved.targets is None:
        return
    config, weights = saved.directory / ADAPTER_CONFIG, saved.directory / ADAPTER_WEIGHTS
    embedding = f"{family_of(base)[0].decoder}.embed_tokens"
    known = linears - {HEAD} if saved.targets.is_all_linear else linears | {embedding}
    adapted = saved.targets.adapted(known | set(saved.modules))
    dropped, absent = sorted(set(saved.modules) - adapted), sorted(adapted - set(saved.modules))
    if dropped:
        raise UserError(
            f"{config}: `target_modules` must match every module with tensors, but it does not match "
            f"{_listed(dropped)}, and PEFT would leave them out without an error",
            "use the configuration that was saved with these weights",
        )
    if absent:
        raise UserError(
            f"{weights}: it must hold tensors for every module that `target_modules` matches, but it has none for "
            f"{_listed(absent)}",
            "the file is incomplete, or `target_modules` is not the one it was saved with",
        )


def _check_base_tensors(saved: SavedAdapter, base: Path) -> None:
    """Refuse tensors of the base that differ from the base's own, for PEFT would put them in their place."""
    if not saved.base_tensors:
        return
    own = _tensors_of(base)
    weights = saved.directory / ADAPTER_WEIGHTS
    for name, tensor in saved.base_tensors.items():
        found = _own_tensor(name, own)
        if found is None or not are_equal(weights, tensor, *found):
            raise UserError(
                f"{weights}: tensors of the base must be those of {base}, but {named(name)} differs, and PEFT would "
                "put it in place of the base's",
                "its embedding was trained or resized; merge the adapter with PEFT, `merge_and_unload()`, and pass the "
                "merged model as --base",
            )


def _tensors_of(base: Path) -> dict[str, tuple[Path, Tensor]]:
    return {
        name: (path, one) for path in sorted(base.glob("*.safetensors")) for name, one in read_tensors(path).items()
    }


def _own_tensor(name: str, own: Mapping[str, tuple[Path, Tensor]]) -> tuple[Path, Tensor] | None:
    """Find a tensor of the base by the last part of its name; a head that is not saved is the embedding."""
    last = ".".join(name.split(".")[-2:])
    same = [found for key, found in own.items() if f".{key}".endswith(f".{last}") and found[1].is_float]
    if not same and last == f"{HEAD}.weight":
        return _own_tensor("embed_tokens.weight", own)
    return own.get(name) or (same[0] if len(same) == 1 else None)


def _listed(names: Iterable[str]) -> str:
    sorted_names = sorted(names)
    shown = ", ".join(map(named, sorted_names[:SHOWN_MODULES]))
    return f"{shown} and {len(sorted_names) - SHOWN_MODULES} more" if len(sorted_names) > SHOWN_MODULES else shown
