"""Name, revision and licence of a base, from its own files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.checkpoints.base_lookup import base_name, hub_name

LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
SNAPSHOTS = "snapshots"


@dataclass(frozen=True)
class BaseTerms:
    """How a base is named to others; `revision` and `licence` are None where its files do not state them."""

    name: str
    is_on_hub: bool
    revision: str | None
    licence: str | None


def base_terms(base: Path) -> BaseTerms:
    """Read name, revision and licence of the base in a directory."""
    above = base.parts[-2:-1] if hub_name(base) else ()
    revision = base.name if above == (SNAPSHOTS,) else None
    return BaseTerms(base_name(base), hub_name(base) is not None, revision, _licence(base))


def _licence(base: Path) -> str | None:
    """Return the licence in the front matter of the README, else the first line of the licence file."""
    stated = _front_matter(base / "README.md").get("license") or _front_matter(base / "README.md").get("license_name")
    if stated:
        return stated
    for name in LICENCE_FILES:
        if (base / name).is_file():
            text = (base / name).read_text(encoding="utf-8", errors="replace")
            first = next((line.strip() for line in text.splitlines() if line.strip()), "")
            return f"{first} ({name} of the base)" if first else None
    return None


def _front_matter(path: Path) -> dict[str, str]:
    import yaml

    if not path.is_file():
        return {}
    start, separator, rest = path.read_text(encoding="utf-8", errors="replace").partition("---\n")
    text, end, _ = rest.partition("\n---")
    if start.strip() or not separator or not end:
        return {}
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:  # a README is not ours; without its front matter the licence is not stated
        return {}
    return {key: str(value) for key, value in values.items() if value} if isinstance(values, dict) else {}
