"""Is this directory one whole, trained LoRA adapter that can be trained on? For any PEFT adapter, not only ours.

    python -m trainables.verify runs/stage4/trials/C2-…/best [--base DIR]

The base is built from its configuration alone, on torch's meta device: no weight is read, nothing is downloaded.
Exit code 0 when every check passes, 1 when one fails, 2 when there is nothing to check. Source: brief 000.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from trainables.errors import UserError
from trainables.record import is_whole, read_json

WEIGHTS, CONFIG, MANIFEST = "adapter_model.safetensors", "adapter_config.json", "manifest.json"
SHOWN_KEYS = 3
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Expected:
    """What PEFT makes of the configuration on the adapter's base: names and shapes of its tensors, and who trains."""

    shapes: Mapping[str, Shape]
    adapters: tuple[str, ...]
    active: tuple[str, ...]
    trainable_parameters: int
    total_parameters: int
    trainable_base: tuple[str, ...]


@dataclass(frozen=True)
class Saved:
    """What the directory holds: shapes of its tensors, which are not finite, which lora_B are 0, and its digest."""

    shapes: Mapping[str, Shape]
    parameters: int
    not_finite: tuple[str, ...]
    zero: tuple[str, ...]
    acting: int
    nested_adapters: tuple[str, ...]
    digest: str
    manifest_kept: bool | None


@dataclass(frozen=True)
class Check:
    """One line: whether it passed, what was looked at, and what to do when it failed."""

    passed: bool
    found: str
    hint: str = ""


@dataclass
class Verification:
    """The checks of one directory."""

    directory: Path
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True when every check passed."""
        return all(check.passed for check in self.checks)


def verify(directory: Path, base: Path | None = None) -> Verification:
    """Check an adapter directory against the base it names, or `base`.

    Raises:
        UserError: the directory holds no adapter, its configuration is none of PEFT's, or the base has no config.json.
    """
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise UserError(
                f"{directory}: an adapter directory must hold {CONFIG} and {WEIGHTS}, but {name} is not there",
                "save it with safetensors: `model.save_pretrained(DIR)`",
            )
    saved, expected = read_saved(directory), read_expected(directory, base)
    return Verification(directory, judge(saved, expected))


def judge(saved: Saved, expected: Expected) -> list[Check]:
    """Hold what was saved against what PEFT would make; pure."""
    return [*_judge_adapters(saved, expected), *_judge_tensors(saved, expected)]


def _judge_adapters(saved: Saved, expected: Expected) -> list[Check]:
    names = (*expected.adapters, *saved.nested_adapters)
    share = expected.trainable_parameters / expected.total_parameters
    counted = f"Trainable params: {expected.trainable_parameters:,} / {expected.total_parameters:,} ({share:.4%})"
    frozen = len(expected.trainable_base)
    return [
        Check(len(names) == 1, f"Only one adapter: {', '.join(names)}" if len(names) == 1
              else f"One adapter expected, but {len(names)}: {', '.join(names)}",
              "save each adapter to a directory of its own"),
        Check(expected.active == expected.adapters, "Active adapter matches" if expected.active == expected.adapters
              else f"Active adapter is {', '.join(expected.active)}, not {', '.join(expected.adapters)}"),
        Check(saved.parameters == expected.trainable_parameters, counted if saved.parameters
              == expected.trainable_parameters else f"{counted}, but the file holds {saved.parameters:,}",
              "rank, target modules or base are not those it was trained with"),
        Check(not frozen, "Base model is frozen (0 trainable params)" if not frozen
              else f"{frozen} tensors of the base would train, the first is {expected.trainable_base[0]}"),
    ]  # fmt: skip


def _judge_tensors(saved: Saved, expected: Expected) -> list[Check]:
    missing = sorted(set(expected.shapes) - set(saved.shapes))
    extra = sorted(set(saved.shapes) - set(expected.shapes))
    other = sorted(key for key in set(saved.shapes) & set(expected.shapes) if saved.shapes[key] != expected.shapes[key])
    keys = f"All {len(expected.shapes)} tensors are there, with their shapes"
    if missing or extra or other:
        keys = f"Tensors differ: {_some('missing', missing)}{_some('not expected', extra)}{_some('other shape', other)}"
    finite = f"not finite: {_some('', list(saved.not_finite))}" if saved.not_finite else "All values are finite"
    zero, whole = len(saved.zero), not (missing or extra or other)
    acts = f"It acts: lora_B is not 0 in {saved.acting} modules"
    if zero:
        acts = f"lora_B is 0 in {zero} of {zero + saved.acting} modules, the first is {saved.zero[0]}"
    checks = [
        Check(whole, keys, "base, rank or target modules differ from those it was trained with, or it was cut off"),
        Check(not saved.not_finite, finite, "take an earlier checkpoint: training had broken down"),
        Check(not zero, acts, "it was never trained there, or saved before it was"),
    ]
    if saved.manifest_kept is not None:
        kept = "Its files are those of its manifest" if saved.manifest_kept else "A file differs from its manifest"
        checks.append(Check(saved.manifest_kept, kept, "it was changed or cut after it was written"))
    return [*checks, Check(True, f"sha256 {saved.digest}")]


def _some(label: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return f"{label} {', '.join(keys[:SHOWN_KEYS])}{more}; ".lstrip()


# ---------------------------------------------------------------- what is read
def read_saved(directory: Path) -> Saved:
    """Read the tensors of an adapter directory, one at a time.

    Raises:
        UserError: the file is no whole safetensors file.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, Shape] = {}
    not_finite, zero, acting = [], [], 0
    try:
        with safe_open(str(directory / WEIGHTS), framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 a file is no dict
                tensor = file.get_tensor(key)
                shapes[key] = tuple(tensor.shape)
                if not bool(torch.isfinite(tensor).all()):
                    not_finite.append(key)
                if "lora_B" in key or "lora_embedding_B" in key:
                    acts = bool(tensor.any())
                    acting += acts
                    zero += [] if acts else [key]
    except SafetensorError as error:
        raise UserError(f"{directory / WEIGHTS}: must be a whole safetensors file, but {error}") from None
    return Saved(
        shapes=shapes,
        parameters=sum(_count(shape) for shape in shapes.values()),
        not_finite=tuple(not_finite),
        zero=tuple(zero),
        acting=acting,
        nested_adapters=tuple(path.parent.name for path in sorted(directory.glob(f"*/{CONFIG}"))),
        digest=sha256((directory / WEIGHTS).read_bytes()).hexdigest(),
        manifest_kept=is_whole(directory) if (directory / MANIFEST).is_file() else None,
    )


def read_expected(directory: Path, base: Path | None) -> Expected:
    """Have PEFT put the adapter's configuration on its base, without weights.

    Raises:
        UserError: configuration or base cannot be used.
    """
    import torch
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict

    named = read_json(directory / CONFIG).get("base_model_name_or_path")
    where = base or Path(str(named))
    if not (where / "config.json").is_file():
        raise UserError(
            f"{directory}: the base must be a directory with config.json, but {where} is not",
            "pass --base DIR with the model it was trained on",
        )
    try:
        config = PeftConfig.from_pretrained(str(directory))
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{directory / CONFIG}: must be a configuration PEFT knows, but {error}") from None
    config.inference_mode = False  # as it is loaded to be trained on
    with torch.device("meta"):
        try:
            model = get_peft_model(_empty(where), config)
        except ValueError as error:  # no module has the name
            raise UserError(f"{directory / CONFIG}: its target modules must exist in {where}, but {error}") from None
    trains = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    own = {name for name, _ in model.named_parameters() if "base_layer" not in name and _is_adapters(name)}
    state = get_peft_model_state_dict(model)
    return Expected(
        shapes={key: tuple(tensor.shape) for key, tensor in state.items()},
        adapters=tuple(model.peft_config),
        active=tuple(model.active_adapters),
        trainable_parameters=sum(count for name, count in trains.items() if name in own),
        total_parameters=sum(p.numel() for p in model.parameters()),
        trainable_base=tuple(sorted(set(trains) - own)),
    )


def _is_adapters(name: str) -> bool:
    return "lora_" in name or "modules_to_save" in name or ".default." in name


def _empty(base: Path) -> Any:
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True)
    return getattr(transformers, (config.architectures or ["AutoModelForCausalLM"])[0])(config)


def _count(shape: Shape) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def main(
    directory: Annotated[Path, typer.Argument(help="Adapter directory saved by PEFT.")],
    base: Annotated[Path | None, typer.Option(help="Its base.", show_default="the one it names")] = None,
) -> None:
    """Check an adapter: one, active, whole, trained, and trainable on a frozen base."""
    try:
        verification = verify(directory, base)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    for check in verification.checks:
        typer.echo(f"{'✓' if check.passed else '✗'} {check.found}")
        if not check.passed and check.hint:
            typer.echo(f"    hint: {check.hint}")
    raise typer.Exit(0 if verification.passed else 1)


if __name__ == "__main__":
    sys.exit(typer.run(main))
