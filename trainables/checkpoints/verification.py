"""Checks that a directory holds one complete, trained and trainable adapter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from trainables.checkpoints.manifest import ManifestCheck, check_manifest
from trainables.checkpoints.peft_reference import Expected, Shape, read_expected
from trainables.errors import UserError, named
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

SHOWN_KEYS = 3


@dataclass(frozen=True)
class Saved:
    """Contents of the directory: tensor shapes, names of non-finite and constant tensors, sha256 of the weights."""

    shapes: Mapping[str, Shape]
    parameters: int
    not_finite: tuple[str, ...]
    constant: tuple[str, ...]
    nested_adapters: tuple[str, ...]
    digest: str
    manifest: ManifestCheck | None


@dataclass(frozen=True)
class AdapterCheck:
    """Result of one check: whether it passed, what was found, and what to do if it failed."""

    passed: bool
    found: str
    hint: str = ""


@dataclass
class Verification:
    """The checks of one directory."""

    directory: Path
    checks: list[AdapterCheck] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True when every check passed."""
        return all(check.passed for check in self.checks)


def verify(directory: Path, base: Path | None = None) -> Verification:
    """Check an adapter directory against the base it names, or `base`.

    Raises:
        UserError: the directory holds no adapter, its configuration is not one of PEFT, or the base has no config.json.
    """
    check_is_adapter(directory)
    return Verification(directory, judge(read_saved(directory), read_expected(directory, base)))


def check_is_adapter(directory: Path) -> None:
    """Check that the directory holds an adapter in safetensors.

    Raises:
        UserError: names the missing file, and a subdirectory that holds an adapter.
    """
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (directory / name).is_file():
            nested = _nested(directory)
            raise UserError(
                f"{directory}: an adapter directory must hold {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}, "
                f"but it has no {name}",
                f"there is an adapter in {directory / nested[0]}" if nested
                else "save it with safetensors: `model.save_pretrained(DIR)`",
            )  # fmt: skip


def judge(saved: Saved, expected: Expected) -> list[AdapterCheck]:
    """Compare the saved adapter with the one that PEFT builds from its configuration."""
    return [*_judge_adapters(saved, expected), *_judge_tensors(saved, expected)]


def _judge_adapters(saved: Saved, expected: Expected) -> list[AdapterCheck]:
    loaded, frozen = expected.loaded, len(expected.trainable_base)
    names = (*(loaded.adapters if loaded else ("default",)), *saved.nested_adapters)
    share = expected.trainable_parameters / expected.total_parameters
    counted = f"Trainable params: {expected.trainable_parameters:,} / {expected.total_parameters:,} ({share:.4%})"
    others = "rank, target modules or base differ from those of its training"
    if loaded is None:
        trains = [AdapterCheck(False, "PEFT cannot load it: its tensors do not match its configuration", others)]
    else:
        active, same = loaded.active == loaded.adapters, loaded.trainable_parameters == expected.trainable_parameters
        trains = [
            AdapterCheck(active, "Active adapter matches" if active
                  else f"Active adapter is {', '.join(loaded.active)}, not {', '.join(loaded.adapters)}"),
            AdapterCheck(same, counted if same
                         else f"{counted}, but {loaded.trainable_parameters:,} train when it is loaded", others),
        ]  # fmt: skip
    return [
        AdapterCheck(len(names) == 1, f"Only one adapter: {', '.join(names)}" if len(names) == 1
              else f"One adapter expected, but {len(names)}: {', '.join(names)}",
              "save each adapter to a separate directory"),
        *trains,
        AdapterCheck(not frozen, "Base model is frozen (0 trainable params)" if not frozen
              else f"{frozen} tensors of the base would train, the first is {expected.trainable_base[0]}",
              "because of `bias` in its configuration, tensors of the base are part of this adapter"),
    ]  # fmt: skip


def _judge_tensors(saved: Saved, expected: Expected) -> list[AdapterCheck]:
    differing = differences(saved, expected)
    count, constant = len(expected.shapes), len(saved.constant)
    keys = f"All {count} tensors are there, with their shapes ({saved.parameters:,} values)"
    finite = f"not finite: {_some('', list(saved.not_finite))}" if saved.not_finite else "All values are finite"
    acts = "It has an effect: no tensor is all 0 or all 1"
    if constant:
        acts = f"{constant} of {len(saved.shapes)} tensors are all 0 or all 1, the first is {saved.constant[0]}"
    checks = [
        AdapterCheck(not differing, f"Tensors differ: {differing}" if differing else keys,
              "base, rank or target modules differ from those of its training, or the file is incomplete"),
        AdapterCheck(not saved.not_finite, finite, "use an earlier checkpoint: training had diverged"),
        AdapterCheck(not constant, acts, "these tensors were never trained, or saved before training"),
    ]  # fmt: skip
    kept = _judge_files(saved.manifest) if saved.manifest is not None else []
    return [*checks, *kept, AdapterCheck(True, f"sha256 {saved.digest}")]


def _judge_files(kept: ManifestCheck) -> list[AdapterCheck]:
    if kept.broken is not None:
        return [
            AdapterCheck(False, f"Its manifest cannot be read: {kept.broken}", "copy manifest.json again, or delete it")
        ]
    wrong = f"{_some('A file differs from its manifest:', list(kept.differing))}"
    wrong += f"{_some('Its manifest does not list', list(kept.unlisted))}"
    checks = [AdapterCheck(not wrong, wrong.rstrip("; ") or f"Its {kept.same} files match its manifest",
                    "it was changed or truncated after it was written")]  # fmt: skip
    if kept.absent:  # an adapter can be used and trained without its optimizer state
        checks.append(AdapterCheck(True, f"Listed in its manifest, but missing: {_some('', list(kept.absent))}"[:-2]))
    return checks


def differences(saved: Saved, expected: Expected) -> str:
    """Describe how the tensors of the file differ from those that PEFT builds; empty if they are equal."""
    missing = sorted(set(expected.shapes) - set(saved.shapes))
    extra = sorted(set(saved.shapes) - set(expected.shapes))
    other = sorted(key for key in set(saved.shapes) & set(expected.shapes) if saved.shapes[key] != expected.shapes[key])
    return f"{_some('missing', missing)}{_some('not expected', extra)}{_some('other shape', other)}".rstrip("; ")


def _some(label: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return f"{label} {', '.join(map(named, keys[:SHOWN_KEYS]))}{more}; ".lstrip()


def read_saved(directory: Path) -> Saved:
    """Read the tensors of an adapter directory, one at a time.

    Raises:
        UserError: the file is not a complete safetensors file.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, Shape] = {}
    not_finite, constant = [], []
    try:
        with safe_open(str(directory / ADAPTER_WEIGHTS), framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 a file is no dict
                tensor = file.get_tensor(key)
                shapes[key] = tuple(tensor.shape)
                if not bool(torch.isfinite(tensor).all()):
                    not_finite.append(key)
                if tensor.numel() > 1 and bool((tensor == 0).all() or (tensor == 1).all()):
                    constant.append(key)  # initial values of lora_B (0) and of an IA3 vector (1)
    except SafetensorError as error:
        raise UserError(f"{directory / ADAPTER_WEIGHTS}: must be a whole safetensors file, but {error}") from None
    return Saved(
        shapes=shapes,
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        not_finite=tuple(not_finite),
        constant=tuple(constant),
        nested_adapters=_nested(directory),
        digest=sha256((directory / ADAPTER_WEIGHTS).read_bytes()).hexdigest(),
        manifest=check_manifest(directory, (ADAPTER_CONFIG, ADAPTER_WEIGHTS)),
    )


def _nested(directory: Path) -> tuple[str, ...]:
    return tuple(path.parent.name for path in sorted(directory.glob(f"*/{ADAPTER_CONFIG}")))
