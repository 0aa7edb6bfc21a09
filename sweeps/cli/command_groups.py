"""The groups in which the help of `footprint` lists its commands."""

from __future__ import annotations

from collections.abc import Mapping

from sweeps.execution.submission import studies

STUDIES, OTHER = "Studies", "Other packages"
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Start": ("init", "doctor", "data", "mini", "explain", "import", "submit", "down"),
    "Watch": ("status", "logs", "list", "rm"),
    "Decide": ("pareto", "report", "compare", "effects", "seeds", "results", "runs", "finalists", "rescale", "holdout"),
    "Ship": ("ship", "verify", "validate", "lmms-eval", "export"),
}
PANELS = (*list(GROUPS)[:1], STUDIES, *list(GROUPS)[1:], OTHER)  # in the order of the help


def panel_of(name: str) -> str:
    """Return the panel of a command in the help."""
    found = next((panel for panel, names in GROUPS.items() if name in names), None)
    return found or (STUDIES if name in studies() else OTHER)
