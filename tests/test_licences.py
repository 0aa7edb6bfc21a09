"""Tests that the table of licences is that of the lock file, and holds licences that were judged."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
STATE_NONE = {"huey", "skops"}  # the licence files that they bring are MIT


def rows() -> dict[str, tuple[str, str]]:
    lines = (ROOT / "docs/licences.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    return {plain(name): (version.partition("+")[0], licence) for name, version, licence in cells}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_table_has_every_locked_package_in_its_version() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = dict(line.split("==") for line in lock if "==" in line and not line.startswith("#"))
    assert {plain(name): version for name, version in locked.items()} == {
        name: version for name, (version, _) in rows().items()
    }, "`make audit` writes the table again"


def test_every_licence_is_one_that_make_audit_allows() -> None:
    found = re.search(r"--allow-only='([^']+)'", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert found
    others = {
        name for name, (_, licence) in rows().items() if not any(one in licence for one in found.group(1).split(";"))
    }
    assert others == STATE_NONE


def test_packages_that_cannot_be_looked_up_fail_the_audit() -> None:
    command = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "bin/pip-audit " in line)
    assert "--strict" in command.split()
