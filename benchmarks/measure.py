"""Measures one shape, all families and all arms; returns plain values, from which the page is written."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.families import NAMES, family, modelled, trial
from benchmarks.shapes import Shape, prepared
from trainables.engine import Engine
from trainables.errors import InfrastructureError
from trainables.io.files import read_json
from trainables.spec import TrialSpec

if TYPE_CHECKING:
    from benchmarks.sharing import ArmFigures, Bench


ROOT = Path(__file__).resolve().parents[1]
THREADS = 2
# the stock recipe costs the same whichever layers are adapted, so one arm of each letter is measured
STOCK_ARM = {"A": "A1", "B": "B2", "C": "C2", "D": "D2"}


@dataclass(frozen=True)
class Effort:
    """How much is measured: steps of a trial, repetitions, families, and the families timed with evals (`whole`)."""

    steps: int
    repeats: int
    families: Sequence[str] = NAMES
    whole: Sequence[str] = NAMES

    @classmethod
    def of(cls, shape: Shape, quick: bool, families: Sequence[str] = ()) -> Effort:
        """Return the effort of a shape, or that of a smoke test when `quick`."""
        if quick:
            return cls(steps=4, repeats=1, families=families or ("A", "C"))
        return cls(shape.steps, shape.repeats, families or NAMES, shape.whole)


def measure_shape(shape: Shape, effort: Effort, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure a shape; returns its machine, its batch, and the figures of every arm by family.

    Raises:
        UserError: the shape needs a device that this machine lacks.
    """
    import torch

    from benchmarks.careful_arm import dequantized_base, measure_careful

    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        settings = prepared(shape, directory, effort.steps)
        say(f"{shape.name}: the stock recipe, a process a trial")
        stock = {arm: stock_trial(shape, trial(arm, settings), directory, say) for arm in _needed(effort)}
        bench = _bench(shape, settings, directory)
        plain = dequantized_base(shape.load(settings["base"].path, trial("A1", settings)), trial("A1", settings))
        found: dict[str, Any] = {}
        for name in effort.families:
            specs = family(name, settings)
            say(f"{shape.name}: {name}, {len(specs)} trials")
            careful = measure_careful(bench, plain, specs, -(-effort.repeats // 2))
            own = _measured(bench, specs, effort, name in effort.whole, say)
            careful = measure_careful(bench, plain, specs, effort.repeats // 2, careful)  # before and after the others
            say(f"careful {_mean(careful.step_seconds):.3f} s a step")
            arms = [_stock_figures(bench, specs, stock), careful, *own]
            found[name] = {"trials": len(specs), "arms": [asdict(one) for one in arms]}
        cost = bench.cost([trial("A1", settings)])
        return {
            "title": shape.title,
            "machine": machine(bench.engine.base.device.type),
            "steps": effort.steps,
            "repeats": effort.repeats,
            "rows": settings["batch_rows"] * settings["accumulation_steps"],
            "counts": asdict(cost.counts),
            "peak_flops": shape.peak_flops,
            "untrained": {arm: one["untrained"] for arm, one in stock.items()},
            "stock": {arm: _seconds(one) for arm, one in stock.items()},
            "families": found,
        }


def stock_trial(shape: Shape, spec: TrialSpec, directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run one trial by the stock recipe in its own process; adds `whole_seconds`, from its start to its end."""
    path, out = directory / f"stock-{spec.name}.json", directory / f"stock-{spec.name}-found.json"
    path.write_text(spec.model_dump_json(), encoding="utf-8")
    began = time.perf_counter()
    run_module("benchmarks.stock", "one", shape.name, str(path), str(out), str(THREADS))
    found = {**read_json(out), "whole_seconds": time.perf_counter() - began}
    say(f"stock {spec.name} {_mean(found['step_seconds']):.3f} s a step, {found['whole_seconds']:.1f} s whole")
    return found


def run_module(module: str, *arguments: str) -> None:
    """Run a module of this repository in a new Python process; its output is printed when it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)  # noqa: S603
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise InfrastructureError(
            f"`python -m {module} {' '.join(arguments)}` ended with {done.returncode}", "see above"
        )


def machine(device: str) -> dict[str, Any]:
    """Return the date and a description of this machine."""
    import torch

    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cpu": f"{os.cpu_count()} cores ({_processor()})",
        "gpu": torch.cuda.get_device_name(0) if device == "cuda" else "no GPU used",
        "threads": THREADS,
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }


def _bench(shape: Shape, settings: Mapping[str, Any], directory: Path) -> Bench:
    from benchmarks.sharing import Bench, run_solo

    spec = trial("C2", settings)
    bench = Bench(Engine.on(shape.load(spec.base.path, spec), spec), directory / "records")
    run_solo(bench, [spec], last=2)  # warm-up: the first steps of a process are slower
    return bench


def _measured(
    bench: Bench, specs: Sequence[TrialSpec], effort: Effort, whole: bool, say: Callable[[str], None]
) -> list[ArmFigures]:
    from benchmarks.sharing import measure_family

    return measure_family(bench, specs, effort.repeats, int(whole), say)


def _stock_figures(bench: Bench, specs: Sequence[TrialSpec], stock: Mapping[str, dict[str, Any]]) -> ArmFigures:
    from benchmarks.sharing import ArmFigures

    cost = bench.cost(specs)
    found = [stock[STOCK_ARM[spec.name[0]]] for spec in specs]
    return ArmFigures(
        arm="stock",
        flops=sum(cost.stock(modelled(spec)) for spec in specs),
        step_seconds=[sum(_mean(one["step_seconds"]) for one in found)],
        makespan_seconds=[sum(one["whole_seconds"] for one in found)],
        eval_seconds=[sum(one["eval_seconds"] for one in found)],
        peak_mb=max(one["peak_mb"] for one in found),
    )


def _needed(effort: Effort) -> list[str]:
    letters = "ABCD" if "full" in effort.families else dict.fromkeys(name[0] for name in effort.families)
    return [STOCK_ARM[letter] for letter in letters]


def _seconds(found: Mapping[str, Any]) -> dict[str, float]:
    return {key: found[key] for key in ("whole_seconds", "load_seconds", "training_seconds", "eval_seconds")}


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
