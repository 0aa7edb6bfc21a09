"""`python -m benchmarks.gpu`: what one device does with the shared passes, in at most eight minutes.

Needs torch, transformers, peft and bitsandbytes, but neither Ray nor MLflow. Writes JSON and a page after every table.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.command import run
from trainables.errors import UserError, items, nearest

if TYPE_CHECKING:
    from benchmarks.device.budget import Section, Values
    from benchmarks.device.training import Device

PAGE = Path("docs/gpu.md")
BUDGET_SECONDS = 480.0
NAMES = ("modes", "packing", "throughput", "attribution", "evals")


def main(
    device: Annotated[str, typer.Option(help="Device: cuda, cuda:1, or cpu, which needs --small.")] = "cuda",
    small: Annotated[bool, typer.Option("--small", help="Tiny shapes, to test the program itself.")] = False,
    only: Annotated[str, typer.Option(help=f"Only these sections, of {','.join(NAMES)}.")] = "",
    budget_seconds: Annotated[
        float, typer.Option(min=1, help="Time budget; sections that no longer fit are skipped.")
    ] = BUDGET_SECONDS,
    out: Annotated[
        Path | None,
        typer.Option(help="Page; figures are kept as JSON beside it.", show_default="docs/gpu.md; none when small"),
    ] = None,
) -> None:
    """Measure every section that fits the time budget, and write the page after each table.

    Exit code 2 when the device is not there.
    """
    import tempfile

    from benchmarks.device.budget import Budget, run_sections
    from benchmarks.device.training import Device
    from trainables.command import quieten_libraries

    quieten_libraries()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    chosen = items(only, "--only", "modes,packing") or NAMES
    for name in chosen:
        if name not in NAMES:
            raise UserError(f"a section must be one of {', '.join(NAMES)}, but got `{name}`", nearest(name, NAMES))
    found = Device(_checked(device, small), small)
    budget = Budget(budget_seconds)
    with tempfile.TemporaryDirectory() as scratch:
        page = out or (Path(scratch) / PAGE.name if small else PAGE)
        results = _begun(found, budget_seconds)
        sections = [one for one in sections_of(found) if one.name in chosen]
        run_sections(sections, budget, _saver(page, results, budget, typer.echo))
        typer.echo(page.read_text(encoding="utf-8"))


def sections_of(device: Device) -> list[Section]:
    """Return the sections in the order in which they run, each with the seconds that it may take on a CUDA device."""
    from functools import partial

    from benchmarks.device import attribution, evals, modes, packing, throughput
    from benchmarks.device.budget import Section

    scale = 0.1 if device.is_small else 1.0
    parts = (
        ("modes", "Every quantization", 40.0, modes.measure),
        ("packing", "A pass of several trials against each alone", 30.0, packing.measure),
        ("throughput", "Tokens a second by tokens and sharing", 90.0, throughput.measure),
        ("attribution", "Where the time of a step goes", 60.0, attribution.measure),
        ("evals", "What an eval costs", 30.0, evals.measure),
    )
    return [Section(name, title, scale * seconds, partial(run, device)) for name, title, seconds, run in parts]


def _checked(name: str, small: bool) -> Any:
    """Return the torch device of this name.

    Raises:
        UserError: it is not there, or is a CPU, which only small shapes suit.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(
            f"--device must be cuda, cuda:NUMBER or cpu, but got `{name}`", "--device cpu --small"
        ) from None
    if device.type == "cpu" and not small:
        raise UserError("a CPU must be measured with --small, for the sizes of a GPU would take hours on it",
                        "--device cpu --small")  # fmt: skip
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"--device {name} must be there, but torch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "devices",
            "`--device cpu --small` tests the program without one",
        )
    return device if device.type == "cpu" else torch.device("cuda", device.index or 0)


def _begun(device: Device, budget_seconds: float) -> dict[str, Any]:
    from datetime import UTC, datetime
    from importlib.metadata import version

    import torch

    on_gpu = device.device.type == "cuda"
    versions = [f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "bitsandbytes")]
    return {
        "machine": {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "device": torch.cuda.get_device_name(device.device) if on_gpu else "a CPU; no GPU was seen",
            "versions": ", ".join(versions),
        },
        "small": device.is_small, "budget_seconds": budget_seconds, "seconds": 0.0, "sections": {},
    }  # fmt: skip


def _saver(
    page_path: Path, results: dict[str, Any], budget: Any, say: Callable[[str], None]
) -> Callable[[str, Values], None]:
    from benchmarks.device.page import page
    from trainables.io.files import write_json, write_text

    def save(name: str, values: Values) -> None:
        results["sections"][name] = values
        results["seconds"] = budget.seconds - budget.left_seconds
        page_path.parent.mkdir(parents=True, exist_ok=True)
        write_json(page_path.with_suffix(".json"), results)
        write_text(page_path, page(results))
        say(f"{results['seconds']:6.0f} s  {name}: {values['status']}")

    return save


if __name__ == "__main__":
    run(main)
