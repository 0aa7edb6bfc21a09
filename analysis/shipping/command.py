"""The command `analysis ship`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from analysis.options import DEFAULT_LEVEL, STORE, ConclusionOptions, Fit, Generality, Level, TrackingUri
from trainables.progress import working

Arm = Annotated[
    str,
    typer.Option(
        help="An arm ('C2', its best candidate) or a candidate: 'C2 @ 60', 'C2 @ 60 x 0.5', 'C2 @ 90 average'.",
        show_default="the one that the rows and seeds pick",
    ),
]


def ship(  # noqa: PLR0913, PLR0917 one function is the whole command line
    experiment: Annotated[str, typer.Option(help="MLflow experiment: the study's name, for example stage4.")],
    out: Annotated[Path, typer.Option(help="New directory for what is shipped.")],
    arm: Arm = "",
    x: Generality = "",
    y: Fit = "",
    level: Level = DEFAULT_LEVEL,
    scale: Annotated[float, typer.Option(help="Further strength, from 0 (the base) to 1 (as measured).")] = 1.0,
    merge: Annotated[bool, typer.Option("--merge", help="Ship the merged model instead of an adapter.")] = False,
    tracking_uri: TrackingUri = STORE,
) -> None:
    """Write an adapter or a merged model with its card, after a fresh process has measured the recorded numbers.

    No file names a path of this machine. The seed is the admissible one of lowest eval loss. Exits with 1 if no
    candidate can be shipped, or if the numbers differ.
    """
    from rich.console import Console

    from analysis.read_conclusion import read_conclusion
    from analysis.shipping.card import agreement_lines, why_at
    from analysis.shipping.chosen import chosen
    from analysis.shipping.ship import ShippingOptions, check_out
    from analysis.shipping.ship import ship as write_shipment
    from trainables.shipping.package import check_scale

    check_scale(scale)
    check_out(out)
    console = Console(stderr=True)
    with working(console, f"reading {experiment}, and drawing again from its rows and seeds"):
        asked = ConclusionOptions(experiment, tracking_uri, x, y, level=level)
        choice = chosen(read_conclusion(asked), arm, asked.words())
    print(f"shipping {choice.name} of {choice.trial.name}: {why_at(choice.why, scale)}", file=sys.stderr)
    with working(console, "writing it, and measuring it in a fresh process"):
        shipment = write_shipment(choice, ShippingOptions(scale, merge), out)
    print(*agreement_lines(shipment.agreements), f"shipped: {out}, loaded in a fresh process and measured", sep="\n")
