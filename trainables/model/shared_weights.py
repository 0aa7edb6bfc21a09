"""The weights of a loaded base in a file that the engines of a node map, so that they are read and quantized once.

The first engine loads the base and writes its tensors as they lie in memory; all engines, the first one too, then use
the pages of that file. A process that writes to a weight gets a copy of the page. The file is of one launch on one
node, and is never changed.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import IO, Any

import torch

from trainables.code_digest import code_digest
from trainables.io.checksums import canonical_json, verified, with_checksum
from trainables.model.checksums import base_checksums
from trainables.model.residency import Residency, free_bytes
from trainables.model.shared_files import (
    SUFFIX,
    TABLE,
    WRITING,
    alone,
    check_private,
    node_directory,
    remove,
    remove_if_unused,
    remove_unused,
    use,
)
from trainables.spec import ComputeDtype, Quantization

LEAST_BYTES = 64 * 10**6  # of the stored weights; less is loaded as fast as it is shared
ALIGNED_BYTES = 64  # as torch aligns its own tensors: kernels may add in another order otherwise
SHARED = "shared"
GIGABYTE = 10**9
LOAD_SECONDS = 15 * 60.0  # an engine waits so long for another one to load the base
END_SECONDS = 3.0  # and so long at the end of a launch
KEPT_SHARE_OF_DISK = 0.1  # stays free: Ray starts nothing on a node whose disk is more than 95 % full
MAX_SHARE_OF_FREE_MEMORY = 0.5  # for the file's pages, beside the base that was loaded
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, RuntimeError)  # of a table or tensors of another kind
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class LoadedWeights:
    """A loaded model, how its weights are held, and their size as they are quantized in megabytes (10^6 bytes)."""

    model: Any
    residency: Residency
    megabytes: float


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class SharedWeights:
    """The file for one base; `origin` says whether its weights are those of the file, or why they are not.

    `key` names everything that decides the weights, and the launch. `check` raises an error if the files of the base
    are no longer those that were planned; it is called after they were read, before other engines get what was read.
    """

    def __init__(self, key: str, check: Callable[[], None] = lambda: None) -> None:
        self.key, self._check = key, check
        self.path = node_directory() / f"{sha256(key.encode()).hexdigest()[:32]}{SUFFIX}"
        self.origin = ""
        self._held: IO[bytes] | None = None

    def loaded(self, load: Callable[[], LoadedWeights], rebuild: Callable[[Tensors, Residency], Any]) -> LoadedWeights:
        """Return the base with the weights of the file; what `load` returns if there can be no such file.

        `rebuild` returns a model with these tensors for its weights; None if it cannot use exactly these.
        """
        self.release()
        shared: LoadedWeights | None = None
        own: LoadedWeights | None = None
        try:
            check_private(self.path.parent)
            with alone(self.path, LOAD_SECONDS), ExitStack() as failing:
                failing.callback(self._give_up)
                remove_unused(self.path.parent, self.path.stem)
                shared = self._read(rebuild)
                if shared is None:
                    own = load()
                    sums = self._written(own)
                    own = own if sums is None else None  # its memory is not needed beside that of the file
                    shared = self._as_written(rebuild, sums) if sums is not None else None
                if shared is not None:
                    failing.pop_all()
        except OSError as error:
            self.origin = f"own: {error.filename or self.path}: {error.strerror}"
        return shared or own or load()

    @property
    def is_shared(self) -> bool:
        """True when the weights are those of the file."""
        return self.origin.startswith(SHARED)

    def is_worth(self, stored_bytes: int) -> bool:
        """True when a base whose files hold so many bytes is large enough to be shared."""
        if stored_bytes < LEAST_BYTES:
            self.origin = f"own: a base below {LEAST_BYTES // 10**6} MB is not shared"
        return stored_bytes >= LEAST_BYTES

    def release(self) -> None:
        """Use the file no more; tensors stay as they are. The next load of any launch removes what nobody uses."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def end(self) -> None:
        """Use the file no more at the end of a launch, and remove it if no other engine uses it."""
        self.release()
        with suppress(OSError), alone(self.path, END_SECONDS):
            remove_if_unused(self.path)

    def _read(self, rebuild: Callable[[Tensors, Residency], Any]) -> LoadedWeights | None:
        table = self.path.with_suffix(TABLE)
        described = verified(table.read_bytes()) if table.exists() and self.path.exists() else None
        if described is None or described.get("key") != self.path.stem:
            return None
        with suppress(*UNREADABLE), ExitStack() as failing:
            held = failing.enter_context(use(self.path))
            if file_digest(held, "sha256").hexdigest() != described["sha256"]:
                return None
            places = [_Place(**{**one, "shape": tuple(one["shape"])}) for one in described["places"]]
            found = LoadedWeights(
                rebuild(_mapped(self.path, places), described["residency"]),
                described["residency"], float(described["megabytes"]),
            )  # fmt: skip
            if found.model is None:
                return None
            failing.pop_all()
            self._held, self.origin = held, SHARED
            return found
        return None

    def _as_written(
        self, rebuild: Callable[[Tensors, Residency], Any], sums: Mapping[str, int]
    ) -> LoadedWeights | None:  # fmt: skip
        """Return the base with the weights of the file that this process has written, if they are what it loaded."""
        shared = self._read(rebuild)
        if shared is None or base_checksums(shared.model) != sums:
            self.origin = "own: transformers does not make this model from its tensors"
            return None
        self.origin = f"{SHARED}, and loaded here"
        return shared

    def _written(self, own: LoadedWeights) -> dict[str, int] | None:
        """Write the file of a loaded base and return the checksums of its weights; None if they cannot be shared."""
        tensors = {name: one.detach() for name, one in own.model.state_dict().items() if isinstance(one, torch.Tensor)}
        if problem := _problem(tensors, self.path.parent):
            self.origin = f"own: {problem}"
            return None
        written = self.path.with_suffix(WRITING)
        places = _write(written, tensors)
        with written.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        table = {
            "key": self.path.stem, "sha256": digest, "residency": own.residency, "megabytes": own.megabytes,
            "places": [asdict(one) for one in places],
        }  # fmt: skip
        self.path.with_suffix(TABLE).write_text(with_checksum(table), encoding="utf-8")
        self._check()
        written.replace(self.path)
        return base_checksums(own.model)

    def _give_up(self) -> None:
        """Leave no file behind; the lock is held."""
        self.release()
        remove(self.path)


def weights_key(
    base: str, quantization: Quantization, compute_dtype: ComputeDtype, resident: str, launch: str
) -> str:  # fmt: skip
    """Return what decides the weights of a loaded base, with what loads it: libraries, our own code and the launch."""
    import bitsandbytes
    import transformers

    versions = {one.__name__: one.__version__ for one in (torch, transformers, bitsandbytes)}
    return canonical_json(
        {
            "base": base, "quantization": quantization, "compute_dtype": compute_dtype, "resident": resident,
            "versions": versions, "code": code_digest(), "launch": launch,
        }
    )  # fmt: skip


def end_sharing(used: SharedWeights | None) -> None:
    """Remove the files that no engine uses at the end of a launch; this one lets go of what it has `used`."""
    if used is not None:
        used.end()
    with suppress(OSError):
        if node_directory().exists():
            check_private(node_directory())
            remove_unused(node_directory())


# -------------------------------------------------------------------- tensors in a file
def _problem(tensors: Tensors, directory: Path) -> str:
    """Return why tensors cannot be shared through a file; empty if they can."""
    if not all(one.device.type == "cpu" and one.is_contiguous() for one in tensors.values()):
        return "some weights do not lie in memory as they would in a file"
    needed = sum(one.nbytes + ALIGNED_BYTES for one in tensors.values())
    disk = shutil.disk_usage(directory)
    memory = MAX_SHARE_OF_FREE_MEMORY * free_bytes(torch.device("cpu"))
    if needed > min(disk.free - KEPT_SHARE_OF_DISK * disk.total, memory):
        return f"{directory} has no room for {needed / GIGABYTE:.2f} GB, on disk or in memory"
    return ""


def _write(path: Path, tensors: Tensors) -> list[_Place]:
    """Write each tensor once, also if it has several names, and return where they lie."""
    places: list[_Place] = []
    offsets: dict[tuple[int, int], int] = {}
    end = 0
    with path.open("wb") as file:
        for name, tensor in tensors.items():
            known = offsets.get((tensor.data_ptr(), tensor.nbytes))
            if known is None:
                known = offsets[tensor.data_ptr(), tensor.nbytes] = end
                file.seek(end)
                tensor.reshape(-1).view(torch.uint8).numpy().tofile(file)
                end += -(-tensor.nbytes // ALIGNED_BYTES) * ALIGNED_BYTES
            places.append(_Place(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), known))
        file.truncate(end)
    return places


def _mapped(path: Path, places: list[_Place]) -> dict[str, torch.Tensor]:
    """Return the tensors of the file; their pages are read when they are used, and copied when they are written to."""
    every = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
    found = {}
    for one in places:
        dtype: torch.dtype = getattr(torch, one.dtype)
        size = math.prod(one.shape) * dtype.itemsize
        part: Any = every[one.offset : one.offset + size]  # a storage of its own, in the same pages
        found[one.name] = torch.empty(0, dtype=dtype).set_(part).view(one.shape)
    return found
