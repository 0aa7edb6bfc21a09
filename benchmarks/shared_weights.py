"""`python -m benchmarks.shared_weights`: what engines of a node save that share the weights of a base.

Memory is the sum of what all engines have, pages that several of them use counted once (PSS, from Linux).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run
from trainables.errors import UserError, nearest
from trainables.mini import BASE_DIRECTORY
from trainables.model.residency import residency_choice
from trainables.spec import QUANTIZATIONS

MEGABYTE = 10**6
SAMPLE_SECONDS = 0.05
CHILD = "import json, sys\nfrom benchmarks.shared_weights import engine\nengine(*json.loads(sys.argv[1]))"


@dataclass(frozen=True)
class Measured:
    """Megabytes of all engines before loading, at most while they load, and afterwards; CPU seconds of each load."""

    before: float
    most: float
    after: float
    cpu_seconds: tuple[float, ...]
    origins: tuple[str, ...]


def measure(base: Path, quantization: str, resident: str, engines: int, shares: bool) -> Measured:
    """Let engines load a base at once, in a directory for temporary files of their own."""
    with tempfile.TemporaryDirectory(prefix="footprint-bench-") as directory:
        asked = json.dumps([str(base), quantization, resident, shares])
        environment = {**os.environ, "TMPDIR": directory, "OMP_NUM_THREADS": "1"}
        running = [
            subprocess.Popen(  # noqa: S603 this module
                [sys.executable, "-c", CHILD, asked], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
            )
            for _ in range(engines)
        ]  # fmt: skip
        for one in running:
            _line(one)  # its libraries are imported
        before = most = sum(map(megabytes, running))
        for one in running:
            _tell(one)
        while not all((Path(directory) / f"loaded-{one.pid}").exists() for one in running):
            most = max(most, sum(map(megabytes, running)))
            time.sleep(SAMPLE_SECONDS)
        after = sum(map(megabytes, running))
        answers = [json.loads(_line(one)) for one in running]
        for one in running:
            one.communicate("\n")
    return Measured(before, most, after, *map(tuple, zip(*answers, strict=True)))


def megabytes(process: subprocess.Popen[str]) -> float:
    """Return the proportional set size of a process in megabytes (10^6 bytes)."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    [kibibytes] = (int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kibibytes * 1024 / MEGABYTE


def engine(base: str, quantization: str, resident: str, shares: bool) -> None:
    """Load the base when a line is read, tell the CPU seconds, and wait for another line with the base in memory."""
    import torch

    from trainables.model import shared_weights
    from trainables.model.base import load_base
    from trainables.model.shared_weights import SharedWeights, weights_key

    shared_weights.LEAST_BYTES = 0  # the miniature too
    load_base(BASE_DIRECTORY, quantization, "float32", torch.device("cpu"), resident)  # type: ignore[arg-type]
    print("imported", flush=True)
    sys.stdin.readline()
    shared = SharedWeights(weights_key(base, quantization, "float32", resident, "bench")) if shares else None  # type: ignore[arg-type]
    begun = time.process_time()
    held = load_base(Path(base), quantization, "float32", torch.device("cpu"), resident, shared)  # type: ignore[arg-type]
    seconds = time.process_time() - begun
    with torch.no_grad():
        held.model(input_ids=torch.arange(32)[None])  # every page that a pass needs
    (Path(tempfile.gettempdir()) / f"loaded-{os.getpid()}").touch()
    print(json.dumps([round(seconds, 3), shared.origin if shared else "own"]), flush=True)
    sys.stdin.readline()
    if shared is not None:
        shared.release()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def main(
    base: Annotated[Path, typer.Option(help="Directory of a base.")] = BASE_DIRECTORY,
    quantization: Annotated[str, typer.Option(help="Quantization of the base.")] = "nf4-double",
    resident: Annotated[str, typer.Option(help="How 4-bit weights are held: auto, quantized or dequantized.")] = "auto",
    engines: Annotated[int, typer.Option(min=1, help="Engines that load at once.")] = 2,
) -> None:
    """Print a line for engines that load for themselves, and one for engines that share.

    Exit code 2 when the directory holds no base, or an option cannot be used.
    """
    from trainables.model.stored_base import read_base

    if quantization not in QUANTIZATIONS:
        raise UserError(
            f"--quantization must be one of {', '.join(QUANTIZATIONS)}, but got `{quantization}`",
            nearest(quantization, QUANTIZATIONS),
        )
    read_base(base)
    for shares in (False, True):
        one = measure(base, quantization, residency_choice(resident), engines, shares)
        typer.echo(f"{'shared' if shares else 'apart'}: {one.before:.0f} MB before, {one.most:.0f} MB at most and "
                   f"{one.after:.0f} MB after; {one.cpu_seconds} CPU seconds, {one.origins}")  # fmt: skip


if __name__ == "__main__":
    run(main)
