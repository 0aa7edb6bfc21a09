"""Remembers in the user's cache which cut of a cohort into passes was fastest, by shape of the work and machine.

What steps took with kept activations and without is remembered in the same way.
Only speed depends on it: a cut that is wrong for a cohort is slower, and one that does not fit the memory is forgotten.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from trainables.code_digest import code_digest
from trainables.io.checksums import canonical_json
from trainables.io.user_cache import cache_directory, keep

if TYPE_CHECKING:
    from trainables.cohort.cuts import Member
    from trainables.data.encoding import Batch
    from trainables.engine import Engine
    from trainables.spec import TrialSpec

CutT = TypeVar("CutT")
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class CohortShape:
    """What decides which cut is fastest.

    Attributes:
        base: the digest of the base's `config.json`.
        batches: rows, tokens and image patches of each batch of a step.
        members: the adapted layers of each member, language and vision, and its rank, sorted.
        residency: how the base is held; `kept` says whether activations of frozen layers are.
        device: the name of the device or processor; `threads` are those of torch.
        code: the digest of this package's code; `torch` is its version.
    """

    base: str
    quantization: str
    compute_dtype: str
    batches: tuple[tuple[int, int, int], ...]
    members: tuple[tuple[int, int, int], ...]
    residency: str
    kept: bool
    device: str
    threads: int
    code: str
    torch: str

    @property
    def digest(self) -> str:
        """Return the digest by which the cache knows the shape."""
        return sha256(canonical_json(asdict(self)).encode()).hexdigest()


def shape_of(
    engine: Engine, spec: TrialSpec, members: Sequence[Member], batches: Sequence[Batch], kept: bool | None = None
) -> CohortShape:
    """Return the shape of the step that `batches` make for members, on this machine.

    `kept` says whether its passes start from kept activations; by default if the engine has any.
    """
    return CohortShape(
        base=sha256((engine.base.path / "config.json").read_bytes()).hexdigest(),
        quantization=spec.quantization,
        compute_dtype=spec.compute_dtype,
        batches=tuple(
            (one.labels.shape[0], one.labels.shape[1], len(one.inputs.get("pixel_values", ()))) for one in batches
        ),
        members=tuple(sorted((one.language, one.vision, one.rank) for one in members)),
        residency=engine.base.residency,
        kept=engine.kept is not None if kept is None else kept,
        device=_device_name(engine.base.device),
        threads=torch.get_num_threads(),
        code=code_digest(),
        torch=torch.__version__,
    )


@dataclass(frozen=True)
class CalibrationMemory:
    """The cuts in a directory, one file for each shape; None for a user without a cache remembers nothing.

    `read` makes a cut of the plain fields of its file, and raises KeyError, TypeError or ValueError if they are none.
    """

    directory: Path | None

    def remembered(self, shape: CohortShape, read: Callable[[Fields], CutT], measure: Callable[[], CutT]) -> CutT:
        """Return the cut that is known for a shape; else measure one, whose plain fields are kept."""
        known = self._known(shape, read)
        if known is not None:
            return known
        found = measure()
        if self.directory is not None and found is not None:
            fields: Any = found
            keep(self._entry(self.directory, shape), json.dumps(asdict(fields)).encode())
        return found

    def forget(self, shape: CohortShape) -> None:
        """Forget the cut of a shape, which did not fit the memory."""
        if self.directory is not None:
            with suppress(OSError):
                self._entry(self.directory, shape).unlink(missing_ok=True)

    def _known(self, shape: CohortShape, read: Callable[[Fields], CutT]) -> CutT | None:
        if self.directory is None:
            return None
        try:
            fields = json.loads(self._entry(self.directory, shape).read_bytes())
            return read(fields)
        except (OSError, ValueError, KeyError, TypeError):
            return None  # there is none, or its file is damaged

    @staticmethod
    def _entry(directory: Path, shape: CohortShape) -> Path:
        return directory / f"{shape.digest}.json"


def calibration_memory() -> CalibrationMemory:
    """Return the memory in the cache of this user."""
    return _memory("calibrations")


def costs_memory() -> CalibrationMemory:
    """Return the memory of what steps took with and without kept activations, in the cache of this user."""
    return _memory("step-costs")


def _memory(name: str) -> CalibrationMemory:
    cache = cache_directory()
    return CalibrationMemory(cache / name if cache else None)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0]} ({len(models)} cores)" if models else platform.machine()
