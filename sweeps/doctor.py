"""Checks that this machine or cluster can run a sweep; each line shows a result and, if needed, a hint.

python -m sweeps.doctor                                   this machine
python -m sweeps.doctor --address auto --storage DIR      every node of a cluster
"""

from __future__ import annotations

import json
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.command import run
from trainables.errors import ExitCode, UserError, redacted
from trainables.selftest.machine import Check
from trainables.typed import typed

if TYPE_CHECKING:
    from sweeps.execution.cluster import NodeReport


DISTRIBUTION = "lora-footprint"
OLDEST_PYTHON = (3, 11)
SPARE_BYTES = 2 * 10**9  # recommended free space for adapters and MLflow artifacts
FULL_DISK_SHARE = 0.95  # above it, Ray stops writing to its temporary directory
SQLITE_SECONDS = 5.0
HELP = (
    "Check Python, libraries, disk, MLflow, Ray, the devices, and that every quantization trains.\n\n"
    "Exit codes: 0 nothing failed (there may be warnings) · 1 a check failed · 2 a wrong option."
)

Storage = Annotated[Path, typer.Option(help="Directory for records.")]
Tracking = Annotated[str, typer.Option(help="MLflow store.", show_default="sqlite:///mlflow.db")]
Address = Annotated[str, typer.Option(help="Ray cluster, e.g. auto.", show_default="this machine")]
Sees = Annotated[
    list[Path] | None,
    typer.Option(help="File or directory that every node must see (base, data); may be repeated.", show_default="none"),
]
ExpectNodes = Annotated[
    int, typer.Option(min=0, help="Nodes of the cluster that must be up, with the head.", show_default="any number")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Check:
    """Check the version of Python."""
    found = ".".join(map(str, version))
    if version[:2] < OLDEST_PYTHON:
        return Check("python", "fail", f"{found}, but it must be 3.11 or newer", "make PYTHON=python3.11 doctor")
    return Check("python", "ok", f"{found} on {platform.system()}")


def check_libraries(installed: Callable[[str], str] = metadata.version) -> Check:
    """Check that every required library is installed in a supported version."""
    from packaging.requirements import Requirement

    hint = "install the versions of requirements.lock: make test"
    try:
        wanted = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return Check("libraries", "fail", f"{DISTRIBUTION} is not installed", "pip install --no-deps --editable .")
    wanted = [one for one in wanted if one.marker is None]  # extras are optional
    wrong = [problem for one in wanted if (problem := _version_problem(one.name, str(one.specifier), installed))]
    if wrong:
        return Check("libraries", "fail", "; ".join(wrong), hint)
    return Check("libraries", "ok", ", ".join(f"{one.name} {installed(one.name)}" for one in wanted[:5]))


def _version_problem(name: str, specifier: str, installed: Callable[[str], str]) -> str | None:
    from packaging.specifiers import SpecifierSet

    try:
        version = installed(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed"
    return (
        None if SpecifierSet(specifier).contains(version, prereleases=True) else f"{name} {version} is not {specifier}"
    )


def check_disk(storage: Path) -> Iterator[Check]:
    """Check that records can be written, and that Ray's temporary directory is not full."""
    from sweeps.execution.storage import check_storage

    try:
        check_storage(storage)
    except UserError as error:
        yield Check("storage", "fail", error.message, error.hint or "")
    else:
        free = shutil.disk_usage(storage).free
        found = f"{storage}, {free / 1e9:,.1f} GB free"
        if free < SPARE_BYTES:
            yield Check("storage", "warn", found, "enough for the miniature; adapters of a real base take several GB")
        else:
            yield Check("storage", "ok", found)
    temporary = Path(tempfile.gettempdir())
    usage = shutil.disk_usage(temporary)
    found = f"{temporary}, {usage.free / 1e9:,.1f} GB free, {usage.used / usage.total:.0%} used"
    if usage.used / usage.total > FULL_DISK_SHARE:
        yield Check("ray's disk", "warn", found, "Ray stops spilling objects above 95 %; point RAY_TMPDIR elsewhere")
    else:
        yield Check("ray's disk", "ok", found)


def check_store(tracking_uri: str) -> Check:
    """Check that the MLflow store is writable.

    A database gets a transaction that is rolled back; a server gets a run in the experiment `footprint-doctor`.
    """
    from trainables.mlflow_store import checked_uri

    try:
        uri = checked_uri(tracking_uri)
        if uri.startswith("sqlite"):
            return Check("mlflow", "ok", _try_database(Path(uri.partition(":///")[2])))
        _try_server(uri)
    except UserError as error:
        return Check("mlflow", "fail", error.message, error.hint or "")
    return Check("mlflow", "ok", f"{redacted(uri)} accepts runs")


def _try_database(path: Path) -> str:
    try:
        if not path.exists():
            tempfile.TemporaryFile(dir=path.parent).close()
            return f"{path} will be created by the first launch"
        connection = sqlite3.connect(path, timeout=SQLITE_SECONDS)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        finally:
            connection.close()
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f"MLflow's database must be writable, but {path} is not: {reason}",
            "end the process that locks it, or pass another --tracking-uri; sweeps run without MLflow, and --sync "
            "copies their records to it later",
        ) from None
    return f"{path} is writable"


def _try_server(uri: str) -> None:
    from sweeps.tracking.tracker import Tracker
    from trainables.mlflow_store import outages

    tracker = Tracker(uri, "footprint-doctor")
    try:
        tracker.open_launch(typed("doctor"), {})
        tracker.close_launch()
    except outages() as error:
        reason = redacted(str(error).splitlines()[0])
        raise UserError(
            f"MLflow must accept runs, but {redacted(uri)} did not: {reason}",
            "start the server or correct the URI; sweeps run without MLflow, and --sync copies their records to it "
            "later",
        ) from None


def check_nodes(found: list[NodeReport], driver: dict[str, str], expected: int = 0) -> Iterator[Check]:
    """Check how many nodes are up, compare their files and versions, and report their machine checks."""
    from sweeps.execution.cluster import absence_hint

    names = ", ".join(report.node for report in found)
    up = f"{len(found)} node{'s' if len(found) != 1 else ''}: {names}"
    if len(found) < expected:
        yield Check("ray", "fail", f"{up}, but {expected} must be up", absence_hint("cluster.yaml"))
    else:
        yield Check("ray", "ok", up)
    for report in found:
        prefix = f"{report.node}: " if len(found) > 1 else ""
        other = [f"{name} {report.versions.get(name)} not {own}" for name, own in driver.items()
                 if report.versions.get(name) != own]  # fmt: skip
        if other:
            yield Check(
                f"{prefix}versions", "fail", "; ".join(other), "install the same lock file and source on every node"
            )
        if report.path_problems:
            hint = "put storage, base and data on a directory that all nodes mount at the same path"
            yield Check(f"{prefix}files", "fail", "; ".join(report.path_problems), hint)
        else:
            yield Check(f"{prefix}files", "ok", "same storage and data as the driver")
        yield from (Check(f"{prefix}{one.name}", one.level, one.found, one.hint) for one in report.machine)


def checks(
    storage: Path, tracking_uri: str, address: str | None, sees: list[Path], expected: int = 0
) -> Iterator[Check]:
    """Yield the results of all checks, fast checks first; `expected` nodes must be up."""
    from sweeps.execution.cluster import node_reports, versions

    yield check_python()
    libraries = check_libraries()
    yield libraries
    disk = list(check_disk(storage))
    yield from disk
    yield check_store(tracking_uri)
    missing = [str(path) for path in sees if not path.exists()]
    if missing:
        yield Check("files", "fail", f"{', '.join(missing)} cannot be found", "check the path")
    if libraries.level == "fail" or disk[0].level == "fail":
        yield Check("ray", "warn", "skipped: libraries or storage failed", "fix the failures above and run again")
        return
    try:
        found = node_reports(address, storage, [path for path in sees if path.exists()])
        yield from check_nodes(found, versions(), expected)
    except UserError as error:
        yield Check("ray", "fail", error.message, error.hint or "")


app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command(help=HELP)
def doctor(
    storage: Storage = Path("runs"),
    tracking_uri: Tracking = "",
    address: Address = "",
    sees: Sees = None,
    expect_nodes: ExpectNodes = 0,
    as_json: AsJson = False,
) -> None:
    """Run all checks, print each as it ends, and exit with 1 if one failed."""
    from trainables.mlflow_store import default_tracking_uri

    failed, found = 0, []
    paths = [path.expanduser().resolve() for path in sees or ()]
    uri = tracking_uri or default_tracking_uri()
    for check in checks(storage.expanduser().resolve(), uri, address or None, paths, expect_nodes):
        failed += check.level == "fail"
        found.append(asdict(check))
        if not as_json:
            _print_check(check)
    if as_json:
        typer.echo(json.dumps({"failed": failed, "checks": found}, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{failed} failed" if failed else "nothing failed")
    raise typer.Exit(ExitCode.CHECK_FAILED if failed else ExitCode.DONE)


def _print_check(check: Check) -> None:
    typer.echo(f"{check.level:<5} {check.name:<18} {check.found}")
    if check.hint:
        typer.echo(f"{'':<24} hint: {check.hint}")


def main() -> None:
    """Run the doctor's command line."""
    run(app)


if __name__ == "__main__":
    main()
