"""Draws `docs/images/benchmark.png`: how much faster cohorts train than trials alone, measured and modelled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.page import model_ratio, ratio

BARS = {"apart": ("cohort, nothing shared", "#b8c4d6"), "shared": ("cohort, shared prefix", "#2f6db5")}
WIDTH = 0.38


def draw(shapes: Mapping[str, Any], path: Path) -> None:
    """Draw one panel per shape: bars for measured ratios, marks for those of the FLOP model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(shapes), figsize=(5.2 * len(shapes), 3.8), squeeze=False)
    for panel, (name, shape) in zip(panels[0], shapes.items(), strict=True):
        _panel(panel, name, shape["families"])
    panels[0][0].set_ylabel("times faster than trials alone\n(training steps)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _panel(panel: Any, name: str, families: Mapping[str, Any]) -> None:
    for offset, (arm, (label, colour)) in zip((-0.5, 0.5), BARS.items(), strict=True):
        marks = []
        for index, family in enumerate(families.values()):
            arms = {one["arm"]: one for one in family["arms"]}
            place, height = index + offset * WIDTH, ratio(arms["solo"], arms[arm])
            panel.bar(place, height, WIDTH, color=colour, label=label if index == 0 else None)
            panel.annotate(f"{height:.1f}", (place, height), (0, 2), textcoords="offset points", ha="center", size=8)
            marks.append((place, model_ratio(arms["solo"], arms[arm])))
        first = "FLOP model" if arm == "apart" else None
        panel.hlines([y for _, y in marks], [x - WIDTH / 2 for x, _ in marks], [x + WIDTH / 2 for x, _ in marks],
                     colors="black", linewidth=2, label=first)  # fmt: skip
    panel.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    panel.set_xticks(range(len(families)), list(families))
    panel.set_title(name)
    panel.spines[["top", "right"]].set_visible(False)
