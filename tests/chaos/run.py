"""Fails every durable write of a launch in turn, resumes, and compares with an undisturbed run.

`make chaos` writes `docs/faults.json`, from which the table in `docs/faults.md` is made. Launches: `toy`, one process
without Ray (seconds a run); `engine`, `sweeps.commands` with one arm on an engine; `seat`, the same in Tune's worker.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from trainables.record import Record  # noqa: E402 the root must be found first
from trainables.record_check import check_record  # noqa: E402

RESULTS = ROOT / "docs" / "faults.json"
KINDS = ("kill", "torn", "enospc", "eio", "delay")
CLOCKS = {"train_seconds", "eval_seconds", "peak_memory_mb", "base_memory_mb"}
SHORT = ("--only", "L1", "--steps", "4", "--eval-every", "2", "--force")
# kill -9 of a driver; of an engine or a seat the launch goes on by itself
DOCUMENTED = {0, 3, 4, 6, -9}
SECONDS = 900
TRIES = 5
LEFT_SECONDS = 120  # a process that is importing torch notices the end of its parent only afterwards


@dataclass(frozen=True)
class Fault:
    """The `nth` call of a point fails in the processes of one role."""

    launch: str
    role: str
    point: str
    nth: int
    kind: str


@dataclass(frozen=True)
class Outcome:
    """What was seen: `problem` is empty if the fault fired and everything is as undisturbed."""

    fault: Fault
    fired: bool
    exit_code: int
    resumed_exit_code: int | None
    problem: str
    seconds: float


class Ground:
    """A folder in which a launch runs, with one fault."""

    def __init__(self, launch: str, extra: tuple[str, ...] = ()) -> None:
        self.launch, self.extra = launch, extra
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.chaos = self.folder / "chaos"
        self.chaos.mkdir()

    @property
    def experiment(self) -> Path:
        return self.folder / "runs" / "commands"

    def run(self, resume: bool = False) -> tuple[int, str]:
        """Launch, or resume; returns the exit code and the output."""
        environment = {
            **os.environ, "CHAOS": str(self.chaos), "PYTHONPATH": os.pathsep.join((str(HERE), str(ROOT))),
            "FOOTPRINT_THREADS": "1", "RAY_worker_niceness": "0", "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/m.db",
        }  # fmt: skip
        command = [sys.executable, "-m", "sweeps.commands", *(("--resume",) if resume else SHORT), *self._cohort()]
        if self.launch == "toy":
            command = [sys.executable, str(HERE / "toy_launch.py"), str(self.experiment), *self.extra]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def _cohort(self) -> tuple[str, ...]:
        return ("--cohort", "1") if self.launch == "seat" else ()

    def points(self) -> Counter[tuple[str, str]]:
        """Return how often each point was passed in an undisturbed run, by role and name."""
        lines = [line for path in self.chaos.glob("points-*") for line in path.read_text().splitlines()]
        return Counter((one["role"], one["point"]) for one in map(json.loads, lines))

    def left_processes(self) -> list[psutil.Process]:
        """Return what the launch has left running, after a while."""
        if self.launch == "toy":  # one process, which has ended
            return []
        until = time.monotonic() + LEFT_SECONDS
        while (left := [one for one in psutil.process_iter() if self._is_ours(one)]) and time.monotonic() < until:
            time.sleep(0.5)
        return left

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("CHAOS") == str(self.chaos) and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            return False

    def close(self) -> None:
        for process in self.left_processes():
            process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def outcome(experiment: Path) -> dict[str, Any]:
    """Return verdicts, metrics and adapters of all trials; raises what `check_record` finds."""
    found: dict[str, Any] = {"study.json": (experiment / "study.json").read_text()}
    for home in sorted((experiment / "trials").iterdir()):
        record = Record(home)
        check_record(record)
        adapters = record.directory.glob("adapters/*/adapter*[!n]")  # not adapter_config.json
        best = record.best()
        found[home.name] = {
            "verdict": record.verdict(),
            "metrics": [
                (one.kind, one.step, {key: value for key, value in one.metrics.items() if key not in CLOCKS})
                for one in record.measurements()
            ],
            "adapters": {str(path.relative_to(record.directory)): _digest(path) for path in adapters},
            "best": best and best.step,
        }
    return found


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def differing(seen: dict[str, Any], expected: dict[str, Any]) -> str:
    """Return what differs from the undisturbed run, in a few words."""
    if seen.keys() != expected.keys():
        return f"trials {sorted(seen)} instead of {sorted(expected)}"
    parts = [
        f"{part} of {name.partition('-')[0]}"
        for name in expected
        if name != "study.json"
        for part in expected[name]
        if seen[name][part] != expected[name][part]
    ]
    return ", ".join(parts)


def disturbed(fault: Fault, expected: dict[str, Any], extra: tuple[str, ...] = ()) -> Outcome:
    """Run a launch with one fault, resume it, and compare."""
    began, ground = time.monotonic(), Ground(fault.launch, extra)
    code, resumed, problem = 0, None, ""
    try:
        (ground.chaos / "fault.json").write_text(json.dumps(asdict(fault)))
        code, text = ground.run()
        fired = (ground.chaos / "fired").exists()
        problem = _problem(code, text, ground, fault)
        if not problem:
            resumed, text = ground.run(resume=True)
            if resumed in (2, 4) and any(hint in text for hint in ("holds no trial", "launch again without --resume")):
                resumed, text = ground.run()  # what the hint says
            problem = _problem(resumed, text, ground) or ("" if resumed in (0, 3) else f"resume: {text.strip()[-300:]}")
        if not problem:
            different = differing(outcome(ground.experiment), expected)
            problem = different and f"differs: {different}"
    except Exception as error:  # noqa: BLE001 the next fault is tried whatever this one did
        problem, fired = f"{type(error).__name__}: {error}"[:300], (ground.chaos / "fired").exists()
    finally:
        ground.close()
    problem = problem or ("" if fired else "not reached")
    return Outcome(fault, fired, code, resumed, problem, round(time.monotonic() - began, 1))


def _problem(code: int, text: str, ground: Ground, fault: Fault | None = None) -> str:
    is_toy = ground.launch == "toy"
    if code not in DOCUMENTED and not (is_toy and code == 1):  # a script: an error is a traceback
        return f"exit {code}: {text.strip()[-300:]}"
    if code == -9 and (fault is None or fault.role != "driver"):
        return "the driver was killed"
    if "Traceback" in text and not is_toy:
        return f"a traceback: {text.strip()[-300:]}"
    left = ground.left_processes()
    return f"orphans: {[' '.join(one.cmdline()[:4]) for one in left]}" if left else ""


def faults(launch: str, points: Counter[tuple[str, str]], options: argparse.Namespace) -> list[Fault]:
    """Return one fault for every point, role and kind; a point that is passed often fails in the middle."""
    found = []
    for (role, point), count in sorted(points.items()):
        for kind in options.kind.split(",") if options.kind else KINDS:
            if not _is_chosen(f"{role} {point}", kind, options.only) or (kind == "torn" and "fsync" not in point):
                continue
            nths = range(1, count + 1) if options.every else {(count + 1) // 2}
            found += [Fault(launch, role, point, nth, kind) for nth in nths]
    return found


def _is_chosen(point: str, kind: str, only: str) -> bool:
    """Return whether a point is chosen by a list of texts, each with a kind behind an `@` or without."""
    chosen = (one.partition("@") for one in only.split(","))
    return any(text in point and wanted in ("", kind) for text, _, wanted in chosen)


def undisturbed(launch: str) -> tuple[dict[str, Any], Counter[tuple[str, str]]]:
    """Return the outcome and the points of a launch without a fault; on a busy machine Ray needs more than one try."""
    code, text = 0, ""
    for _ in range(TRIES):
        ground = Ground(launch)
        try:
            code, text = ground.run()
            if code in (0, 3):
                return outcome(ground.experiment), ground.points()
        finally:
            ground.close()
        if "Ray must start" not in text:
            break
    raise SystemExit(f"the undisturbed run must succeed, but it exits with {code}:\n{text[-2000:]}")


def run(options: argparse.Namespace) -> list[Outcome]:
    """Run what the options name, and print each outcome."""
    outcomes = []
    for launch in options.launch.split(","):
        expected, points = undisturbed(launch)
        planned = faults(launch, points, options)
        roles = ", ".join(f"{count} in {role}" for role, count in Counter(role for role, _ in points).items())
        writes = sum(points.values())
        print(f"{launch}: {len(points)} points ({roles}), {writes} writes, {len(planned)} faults", flush=True)
        drop_gone(launch, points)
        if options.list:
            print("\n".join(f"  {role:9} {count:3} x {point}" for (role, point), count in sorted(points.items())))
            continue
        for number, fault in enumerate(planned, start=1):
            one = disturbed(fault, expected)
            outcomes.append(one)
            keep(one)
            seen = one.problem or "as undisturbed"
            where = f"{fault.role} {fault.point} #{fault.nth} {fault.kind}"
            print(f"{number}/{len(planned)} {where}: exit {one.exit_code}, "
                  f"resumed {one.resumed_exit_code}, {seen} ({one.seconds} s)", flush=True)  # fmt: skip
    return outcomes


def keep(one: Outcome) -> None:
    """Write an outcome into the results, in the place of an earlier one."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    body = {"date": datetime.now(UTC).date().isoformat(), "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            **asdict(one)}  # fmt: skip
    kept = [other for other in results if other["fault"] != body["fault"]]
    write([*kept, body])


def drop_gone(launch: str, points: Counter[tuple[str, str]]) -> None:
    """Leave out the results of points that this launch no longer passes: its code is another one now."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    gone = [one for one in results if is_gone(one["fault"], launch, points)]
    if gone:
        print("left out, no longer passed: " + ", ".join(sorted({one["fault"]["point"] for one in gone})), flush=True)
        write([one for one in results if one not in gone])


def is_gone(fault: dict[str, Any], launch: str, points: Counter[tuple[str, str]]) -> bool:
    """Return whether a fault of this launch was at a point that it does not pass."""
    return fault["launch"] == launch and (fault["role"], fault["point"]) not in points


def write(results: list[dict[str, Any]]) -> None:
    """Write the results, one a line."""
    RESULTS.write_text("[\n" + ",\n".join(map(json.dumps, results)) + "\n]\n")


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="POINT",
                        help="points whose role and name have this text: POINT[@KIND][,...]")  # fmt: skip
    parser.add_argument("--kind", default="", help=f"of {', '.join(KINDS)}, separated by commas")
    parser.add_argument("--launch", default="toy,engine,seat", help="of toy, engine, seat, separated by commas")
    parser.add_argument("--every", action="store_true", help="fail every call of a point, not only one")
    parser.add_argument("--list", action="store_true", help="print the points, and let nothing fail")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    ended = run(options_of(sys.argv[1:]))
    print(f"{len(ended)} faults, {sum(bool(one.problem) for one in ended)} with a problem")
    raise SystemExit(any(one.problem for one in ended))
