"""Declares the entry points of this checkout's `pyproject.toml` as installed metadata does."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
GROUP = "footprint.commands"


def declared() -> dict[str, str]:
    """Return the subcommands that `pyproject.toml` declares, and the function of each."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["entry-points"][GROUP]


def install(directory: Path, commands: dict[str, str], distribution: str = "lora-footprint") -> Path:
    """Write the metadata of a distribution with these subcommands; return `directory`, which belongs on `sys.path`."""
    metadata = directory / f"{distribution.replace('-', '_')}-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1.0\n")
    lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in commands.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return directory
