"""Writes `docs/reach.md` and its picture from the figures in `docs/reach.json`: measured points and the FLOP model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import templates

if TYPE_CHECKING:
    from benchmarks.flops import Cost

Values = Mapping[str, Any]

PICTURE = Path("images/reach.png")
WORTH = 0.05  # what a doubling of the trials, or sharing at a depth, must save at least to pay
MOST_TRIALS, RANK = 64, 16
RATIOS = (1, 2, 4, 8, 16, 32)  # marked in the picture
WAYS = {
    "shared": ("shared pass, one epoch", "#8aa5c8"),
    "epochs": ("+ activations kept, three epochs", "#2f6db5"),
    "later": ("a later study on the same rows", "#1b3a63"),
}


def model_lines(cost: Cost) -> dict[str, Any]:
    """Return the FLOP model's ratios over trials alone, by the number of trials and by depth."""
    from benchmarks.reach import AT, DEPTH

    layers = cost.architecture.layers
    return {
        "trials": [{"trials": count, **ratios(cost, count, DEPTH)} for count in range(1, MOST_TRIALS + 1)],
        "depths": [{"depth": depth, **ratios(cost, AT, depth)} for depth in range(1, layers + 1)],
    }


def ratios(cost: Cost, trials: int, depth: int) -> dict[str, float]:
    """Return how many times fewer FLOPs a pass of `trials` trials takes than the trials alone, by way of sharing."""
    from benchmarks.flops import KEPT, SHARED, Arm
    from benchmarks.reach import EPOCHS

    arms = [Arm(depth, 0, RANK)] * trials
    alone, cut = trials * cost.solo(arms[0]), [range(trials)]
    return {
        "shared": alone / cost.passes(arms, cut, SHARED),
        "epochs": alone / cost.over_epochs(arms, cut, EPOCHS),
        "later": alone / cost.passes(arms, cut, KEPT),
    }


def measured(point: Values) -> dict[str, float]:
    """Return the same ratios of one measured point."""
    from benchmarks.reach import EPOCHS

    mean = (point["first"] + (EPOCHS - 1) * point["kept"]) / EPOCHS
    return {
        "shared": point["alone"] / point["shared"],
        "epochs": point["alone"] / mean,
        "later": point["alone"] / point["kept"],
    }


def last_doubling(line: Sequence[Values], way: str) -> int:
    """Return the number of trials from which on twice as many are no longer `WORTH` faster for each trial."""
    by_count = {one["trials"]: one[way] for one in line}
    found = [n for n in by_count if 2 * n in by_count and by_count[2 * n] < (1 + WORTH) * by_count[n]]
    return min(found, default=max(by_count))


def last_depth(line: Sequence[Values], way: str) -> int:
    """Return the largest depth at which sharing still saves `WORTH`; 0 if it does at none."""
    return max((one["depth"] for one in line if one[way] >= 1 + WORTH), default=0)


def most_measured(found: Values, way: str) -> Values:
    """Return the measured point with the largest ratio, of those at the depth at which the number of trials varies."""
    from benchmarks.reach import DEPTH

    return max((one for one in found["points"] if one["depth"] == DEPTH), key=lambda one: measured(one)[way])


def write(out: Path, found: Values) -> str:
    """Write the figures, the picture and the page; return the page."""
    from trainables.io.files import write_json, write_text

    write_json(out.with_suffix(".json"), dict(found))
    draw(found, out.parent / PICTURE)
    write_text(out, text := page(found))
    return text


def page(found: Values) -> str:
    """Return the page."""
    from benchmarks import reach

    model = found["model"]
    text = templates.markdown(
        "benchmarks", "reach.md", found=found, table=table(found), ways=WAYS, picture=PICTURE, reach=reach,
        worth=WORTH, most={way: most_measured(found, way)["trials"] for way in WAYS},
        doubling={way: last_doubling(model["trials"], way) for way in WAYS},
        depth={way: last_depth(model["depths"], way) for way in WAYS}, layers=model["depths"][-1]["depth"],
    )  # fmt: skip
    return text.rstrip() + "\n"


def table(found: Values) -> list[str]:
    """Return a line for each measured point, with the FLOP model's ratios in brackets."""
    from benchmarks import reach

    model = found["model"]
    known = {(one["trials"], reach.DEPTH): one for one in model["trials"]}
    known |= {(reach.AT, one["depth"]): one for one in model["depths"]}
    lines = [
        f"| trials | adapted layers | {' | '.join(title for title, _ in WAYS.values())} |",
        f"| --- | --- | {' | '.join('---' for _ in WAYS)} |",
    ]
    for point in found["points"]:
        own, line = measured(point), known.get((point["trials"], point["depth"]))
        cells = [f"{own[way]:.2f} ({line[way]:.2f})" if line else f"{own[way]:.2f}" for way in WAYS]
        lines.append(f"| {point['trials']} | {point['depth']} | {' | '.join(cells)} |")
    return lines


def draw(found: Values, path: Path) -> None:
    """Draw two panels: ratios by the number of trials, and by depth; lines are the model's, points are measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from benchmarks.reach import AT, DEPTH

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    model = found["model"]
    _panel(left, model["trials"], [one for one in found["points"] if one["depth"] == DEPTH], "trials")
    _panel(right, model["depths"], [one for one in found["points"] if one["trials"] == AT], "depth")
    for way, (_, colour) in WAYS.items():
        left.axvline(last_doubling(model["trials"], way), color=colour, linewidth=0.8, linestyle=":")
        right.axvline(last_depth(model["depths"], way), color=colour, linewidth=0.8, linestyle=":")
    left.set_xscale("log", base=2)
    left.set_xticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
    left.set_xlabel(f"trials that adapt the last {DEPTH} layers")
    right.set_xlabel(f"adapted layers of {AT} trials")
    left.set_ylabel("times faster than trials alone\n(training steps)")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _panel(panel: Any, line: Sequence[Values], points: Sequence[Values], key: str) -> None:
    for number, (way, (label, colour)) in enumerate(WAYS.items()):
        panel.plot([one[key] for one in line], [one[way] for one in line], color=colour, label=label)
        panel.plot([one[key] for one in points], [measured(one)[way] for one in points], "o", color=colour,
                   label="measured" if number == 1 else None)  # fmt: skip
    panel.axhline(1, color="grey", linewidth=0.8)
    panel.set_yscale("log", base=2)
    panel.set_yticks(RATIOS, [str(one) for one in RATIOS])
    panel.spines[["top", "right"]].set_visible(False)
