"""Name, revision and licence of a base, from its own files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.checkpoints.base_lookup import base_name, hub_name

LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
MOST_BYTES = 2**16
MOST_LEVELS = 32
NOTHING = ("", "~", "null")
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
            with (base / name).open("rb") as file:
                text = file.read(MOST_BYTES).decode("utf-8", errors="replace")
            first = next((line.strip() for line in text.splitlines() if line.strip()), "")
            return f"{first} ({name} of the base)" if first else None
    return None


def _front_matter(path: Path) -> dict[str, str]:
    """Return the texts of the front matter by their keys, without building what may be nested or repeated in it."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        head = file.read(MOST_BYTES).decode("utf-8", errors="replace")
    start, separator, rest = head.replace("\r\n", "\n").partition("---\n")
    text, end, _ = rest.partition("\n---")
    return _texts(text) if separator and end and not start.strip() else {}


def _texts(text: str) -> dict[str, str]:
    """Return the scalars of the outermost mapping of a YAML text; parsing its events neither recurses nor expands."""
    import yaml

    found: dict[str, str] = {}
    depth, key = 0, None
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if depth == 0 and isinstance(event, yaml.SequenceStartEvent):
                return {}
            if isinstance(event, yaml.CollectionStartEvent):
                depth, key = depth + 1, None
                if depth > MOST_LEVELS:  # the parser takes time that grows with the square of the depth
                    return {}
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif depth == 1 and key is None and isinstance(event, yaml.ScalarEvent):
                key = event.value
            elif depth == 1 and key is not None:
                if isinstance(event, yaml.ScalarEvent) and event.value not in NOTHING:
                    found[key] = event.value
                key = None
    except yaml.YAMLError:  # a README is not ours; without its front matter the licence is not stated
        return {}
    return found
