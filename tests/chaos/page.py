"""Writes the results of `make chaos` as a table into `docs/faults.md`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
PAGE, RESULTS = DOCS / "faults.md", DOCS / "faults.json"
BEGIN, END = "<!-- chaos -->", "<!-- end -->"
NOTE = """\
Expected in each row: the launch ends with a documented exit code, or goes on; after `--resume` verdicts, metrics and
adapter bytes are those of an undisturbed run, and no process is left. Launches: `toy` is one process with the real
experiment, lease, claims and records, and trials that train by hashing (an error there is a traceback and exit code 1);
`engine` is `sweeps.commands` with one arm on an engine; `seat` the same with `--cohort 1`. What is not in the table has
not been tried."""


def table(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a row for every point of a launch, with what was seen for each kind of fault."""
    rows = ["| launch | role | point | what was seen | date | machine |", "| --- | --- | --- | --- | --- | --- |"]

    def key(one: Mapping[str, Any]) -> tuple[str, ...]:
        return (*(one["fault"][part] for part in ("launch", "role", "point")), one["date"], one["machine"])

    for (launch, role, point, date, machine), group in groupby(sorted(results, key=key), key):
        seen = "; ".join(map(_seen, group))
        rows.append(f"| {launch} | {role} | `{point}` | {seen} | {date} | {machine} |")
    return rows


def _seen(one: Mapping[str, Any]) -> str:
    what = one["problem"] or "equal"
    return f"{one['fault']['kind']}: exit {one['exit_code']}, {what}".replace("\n", " ").replace("|", "/")


def write() -> None:
    """Replace the table in the page."""
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    count = f"{len(results)} faults, {sum(bool(one['problem']) for one in results)} with a problem."
    text = "\n".join([NOTE, "", count, "", *table(results)])
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    write()
