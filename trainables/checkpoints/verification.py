"""Checks that a directory holds one complete, trained and trainable adapter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from trainables.checkpoints.adapter_config import read_adapter_config
from trainables.checkpoints.directory import check_is_adapter, nested_adapters
from trainables.checkpoints.manifest import ManifestCheck, check_manifest
from trainables.checkpoints.names import explained
from trainables.checkpoints.peft_reference import Expected, Shape, read_expected
from trainables.checkpoints.plain_lora import LORA, kind_of, not_plain, unopenable
from trainables.errors import UserError, named
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, saved_name
from trainables.typed import typed

SHOWN_KEYS = 3
DIFFERING = "Tensors differ: "


@dataclass(frozen=True)
class Saved:
    """Contents of the directory: tensor shapes, names of non-finite and constant tensors, sha256 of the weights.

    `not_float` names tensors of another type than float64, float32, float16 and bfloat16.
    """

    shapes: Mapping[str, Shape]
    parameters: int
    not_finite: tuple[str, ...]
    constant: tuple[str, ...]
    not_float: tuple[str, ...]
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
    config = read_adapter_config(directory)
    refused = [AdapterCheck(False, f"It cannot be opened: {one}", one.hint) for one in unopenable(config)]
    if refused:
        return Verification(directory, refused)
    checks = judge(read_saved(directory), read_expected(directory, base))
    return Verification(directory, [*checks[:-1], *_described(config, base), checks[-1]])


def check_opens(directory: Path, base: Path) -> Saved:
    """Check that PEFT opens all of an adapter on `base`, and that its values are finite; return what the files hold.

    Raises:
        UserError: it cannot be opened, or is incomplete, or not finite.
    """
    hint = f"`{typed('verify', str(directory))}` shows every check"
    for one in unopenable(read_adapter_config(directory)):
        raise UserError(f"{directory / ADAPTER_CONFIG}: an adapter must be one that PEFT opens, but {one}", one.hint)
    saved = read_saved(directory)
    found = [
        check.found.removeprefix(DIFFERING)
        for check in _judge_values(saved, read_expected(directory, base))
        if not check.passed
    ]
    if found:
        raise UserError(f"{directory}: an adapter must be complete and finite, but {'; '.join(found)}", hint)
    return saved


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
    constant = len(saved.constant)
    acts = "It has an effect: no tensor is all 0 or all 1"
    if constant:
        acts = f"{constant} of {len(saved.shapes)} tensors are all 0 or all 1, the first is {saved.constant[0]}"
    kept = _judge_files(saved.manifest) if saved.manifest is not None else []
    return [
        *_judge_values(saved, expected),
        AdapterCheck(not constant, acts, "these tensors were never trained, or saved before training"),
        *kept,
        AdapterCheck(True, f"sha256 {saved.digest}"),
    ]


def _judge_values(saved: Saved, expected: Expected) -> list[AdapterCheck]:
    """Judge names, shapes, types and values of the tensors: what must hold for PEFT to open the adapter as saved."""
    differing, count = differences(saved, expected), len(expected.shapes)
    keys = f"All {count} tensors are there, with their shapes ({saved.parameters:,} values)"
    if not differing and converted(saved, expected):
        keys = f"{keys}; their names are those of an older transformers, which PEFT converts"
    finite = f"not finite: {_some('', list(saved.not_finite))}" if saved.not_finite else "All values are finite"
    checks = [
        AdapterCheck(not differing, f"{DIFFERING}{differing}" if differing else keys,
              explained(set(saved.shapes) - expected.names, expected.shapes)
              or "base, rank or target modules differ from those of its training, or the file is incomplete"),
        AdapterCheck(not saved.not_finite, finite, "use an earlier checkpoint: training had diverged"),
    ]  # fmt: skip
    if saved.not_float:
        checks.append(AdapterCheck(False, f"not of a floating type: {_some('', list(saved.not_float))}"[:-2],
                                   "save the adapter's own weights, not quantized ones"))  # fmt: skip
    replaced = sorted(set(saved.shapes) & set(expected.base_shapes))
    if replaced and not differing:
        checks.append(AdapterCheck(True, f"PEFT puts them in place of the base's: {_some('', replaced)}"[:-2]))
    return checks


def _described(config: Mapping[str, Any], base: Path | None) -> Iterator[AdapterCheck]:
    """Say of what kind the adapter is, whether a trial can continue it, and what was not compared; never a failure."""
    kind, name = kind_of(config), config.get("base_model_name_or_path")
    others = not_plain(config) if kind == LORA else ()
    if kind != LORA:
        yield AdapterCheck(True, f"Kind: {kind}, which --init-from cannot continue: it continues plain LoRA alone")
    elif others:
        yield AdapterCheck(True, f"Kind: LORA, which --init-from cannot continue: {'; '.join(map(str, others))}")
    else:
        yield AdapterCheck(True, "Kind: LORA, plain, which --init-from can continue")
    if base is not None and name and name != str(base):
        yield AdapterCheck(True, f"Base: {base}; the adapter names {named(name)}, and names are not compared")


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
    """Describe which tensors PEFT misses in the file, does not load from it, or cannot; empty if there are none.

    Names are those that PEFT saves today, for a file with names of an older transformers too.
    """
    if expected.loaded is not None:
        missing, extra, other = expected.loaded.missing, expected.loaded.unexpected, []
    else:
        shapes = {**expected.base_shapes, **expected.shapes}
        missing, extra = sorted(set(expected.shapes) - set(saved.shapes)), sorted(set(saved.shapes) - set(shapes))
        other = sorted(key for key in set(saved.shapes) & set(shapes) if saved.shapes[key] != shapes[key])
    parts = (_some("missing", list(missing)), _some("not expected", list(extra)), _some("other shape", other))
    return "".join(parts).rstrip("; ")


def converted(saved: Saved, expected: Expected) -> bool:
    """Return True if the file has names that PEFT does not save today."""
    return not set(saved.shapes) <= expected.names


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

    floats = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    shapes: dict[str, Shape] = {}
    not_finite, constant, not_float = [], [], []
    try:
        with safe_open(str(directory / ADAPTER_WEIGHTS), framework="pt") as file:
            for stored in file.keys():  # noqa: SIM118 a file is no dict
                key, tensor = saved_name(stored), file.get_tensor(stored)
                if key in shapes:
                    weights = directory / ADAPTER_WEIGHTS
                    raise UserError(f"{weights}: every tensor must be there once, but {named(key)} is there twice")
                shapes[key] = tuple(tensor.shape)
                if tensor.dtype not in floats:  # other kinds of adapters have tensors of indices
                    not_float += [key] if ".lora_" in key else []
                    continue
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
        not_float=tuple(not_float),
        nested_adapters=nested_adapters(directory),
        digest=sha256((directory / ADAPTER_WEIGHTS).read_bytes()).hexdigest(),
        manifest=check_manifest(directory, (ADAPTER_CONFIG, ADAPTER_WEIGHTS)),
    )
