"""The colours of pages stand out from their paper, and are told apart with any form of colour blindness.

Sources: WCAG 2.2 for contrast; Machado, Oliveira and Fernandes, 2009, at severity 1 for colour blindness; CIE 1976 for
the difference of two colours.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from analysis import charts
from analysis.charts.chart import STYLES
from analysis.charts.colours import DARK_PAPER, LIGHT_PAPER, PAGE_COLOURS
from analysis.charts.drawing import LIMIT_COLOUR, PATH_COLOUR, SEED_COLOUR
from analysis.study_report.plots import COLOURS, MARKERS

SIGHT = {
    "all colours": np.eye(3),
    "no red": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                        [-0.003882, -0.048116, 1.051998]]),
    "no green": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                          [-0.011820, 0.042940, 0.968881]]),
    "no blue": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                         [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                   [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
WHITE = np.array([0.95047, 1.0, 1.08883])
TOLD_APART = 10.0  # of CIE 1976; 2.3 is just noticed
PAPERS = {"light": LIGHT_PAPER, "dark": DARK_PAPER}


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    dark, light = sorted(float(TO_XYZ[1] @ linear(each)) for each in (one, other))
    return (light + 0.05) / (dark + 0.05)


def seen(colour: str, sight: str) -> np.ndarray:
    x, y, z = np.cbrt(TO_XYZ @ np.clip(SIGHT[sight] @ linear(colour), 1e-4, 1) / WHITE)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def alike(colours: list[str], sight: str) -> list[tuple[str, str]]:
    return [(one, other) for one, other in combinations(colours, 2)
            if np.linalg.norm(seen(one, sight) - seen(other, sight)) < TOLD_APART]  # fmt: skip


def on(paper: str, drawn: str) -> str:
    _, light, dark = PAGE_COLOURS[drawn]
    return dark if paper == "dark" else light


@pytest.mark.parametrize("paper", PAPERS)
def test_what_is_drawn_stands_out_from_its_paper(paper: str) -> None:
    drawn = {*COLOURS, *(one.colour for one in STYLES.values()), LIMIT_COLOUR, PATH_COLOUR, SEED_COLOUR}
    assert drawn <= set(PAGE_COLOURS)
    assert [one for one in drawn if contrast(on(paper, one), PAPERS[paper]) < 3.0] == []


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("sight", SIGHT)
def test_curves_are_told_apart_by_their_colours_and_by_their_marks(paper: str, sight: str) -> None:
    assert alike([on(paper, one) for one in COLOURS], sight) == []
    assert len(set(MARKERS)) == len(MARKERS) >= len(COLOURS)


def test_red_and_green_of_one_lightness_would_be_seen_as_a_fault() -> None:
    assert alike(["#c04000", "#708000"], "all colours") == [] and alike(["#c04000", "#708000"], "no green") != []


@pytest.mark.parametrize("paper", PAPERS)
def test_texts_stand_out_from_their_paper(paper: str) -> None:
    style = (Path(charts.__file__).parent / "templates" / "style.css").read_text()
    light, dark = [line for line in style.splitlines() if line.strip().startswith(":root")][:2]
    named = dict(part.split(": ") for part in (dark if paper == "dark" else light).split("{ ")[1].split("; ")
                 if part.startswith("--"))  # fmt: skip
    for name in ("--ink", "--quiet", "--mark", "--bad"):
        colour = named[name] if len(named[name]) == 7 else "#" + "".join(2 * one for one in named[name][1:])
        assert contrast(colour, PAPERS[paper]) >= 4.5, name
