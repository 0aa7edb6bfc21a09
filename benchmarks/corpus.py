"""`make corpus`: plants every known failure in short trials, and runs hundreds of healthy ones.

Writes `docs/corpus.md`: the check that found each failure, at which step, each missed failure, and each false alarm.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tests.corpus import at_evals, before_training, during_training
from tests.corpus.bench import Bench, Injection, Seen, planted
from tests.corpus.controls import CONTROLS, draws
from trainables.command import run
from trainables.errors import ExitCode

HEALTHY_RUNS = 11 * len(CONTROLS)
NOTES = (
    "The checks were written for these failures. Recall shows that each check works; it says nothing about failures "
    "that are not listed.",
    "F28 is not planted, because it is not a failure: rsLoRA's larger gradients are among the controls.",
    "F14 and F22 were seen with DeepSpeed, F18 with several processes, F02 and F25 in trainers of other projects. Here "
    "their effect on gradients, files, rates and flags is planted in one process.",
    "F16 is planted as a loss that is 20 times too large. A factor of two cannot be seen in a loss; "
    "`tests/trainables/training/test_trial.py` proves against a reference that accumulation equals one large batch.",
    "F12 and F13 overflow through a hook on the miniature's modules, because its own weights do not overflow.",
    "F36 with bitsandbytes' own kernel needs a CPU with AVX512-BF16 and is skipped on other CPUs; the same failure "
    "planted by a hook runs everywhere.",
)


@dataclass
class Benches:
    """The benches by quantization, kind of rows and dtype; each is created at its first use."""

    directory: Path
    made: dict[tuple[str, str, str], Bench] = field(default_factory=dict)

    def of(self, quantization: str = "none", kind: str = "image", dtype: str = "float32") -> Bench:
        """Return the bench for this quantization, kind of rows and dtype."""
        key = (quantization, kind, dtype)
        if key not in self.made:
            self.made[key] = Bench(self.directory / "-".join(key), *key)
        return self.made[key]


@contextmanager
def benches() -> Iterator[Benches]:
    """Yield benches in a scratch directory; their processes are ended afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        found = Benches(Path(scratch))
        try:
            yield found
        finally:
            for one in found.made.values():
                one.close()


def recall(found: Benches) -> Iterator[tuple[Injection, Seen | None]]:
    """Plant every failure; yields each with the check that found it, None where none did."""
    packed = (during_training.PACKED,) if has_packed_kernel() else ()
    for one in (*before_training.INJECTIONS, *during_training.INJECTIONS, *packed, *at_evals.INJECTIONS):
        yield one, planted(found.of(one.quantization), one)
    for one in at_evals.CONTINUED:
        bench = found.of()
        yield one, planted(bench, replace(one, changes=at_evals.continuing(bench)))
    half_written = Injection("F31", "a half-written checkpoint", ("damaged_checkpoint",), 0)
    yield half_written, at_evals.damaged_checkpoint(found.of())


def has_packed_kernel() -> bool:
    """True on a CPU for which bitsandbytes repacks 4-bit weights."""
    information = Path("/proc/cpuinfo")
    return information.is_file() and "avx512_bf16" in information.read_text(encoding="utf-8")


def false_alarms(found: Benches, count: int) -> Iterator[tuple[str, list[Seen]]]:
    """Run healthy trials; yields the name of each control with its alarms, an empty list when there were none."""
    for control, changes in draws(count):
        bench = found.of(*control.bench)
        parent = at_evals.continuing(bench, changes.get("optimizer", "fresh")) if control.continues else {}
        end, *labels = bench.run(changes | parent)
        alarms = [one for one in labels if one.level == "degraded"]
        yield control.what, alarms if end.check == "completed" else [end, *alarms]


def page(results: list[tuple[Injection, Seen | None]], healthy: list[tuple[str, list[Seen]]], seconds: float) -> str:
    """Return the page as Markdown, with the machine and the date."""
    in_time = [one for one, seen in results if seen is not None and seen.step <= one.latest_step]
    alarms = [(what, one) for what, seen in healthy for one in seen]
    delays = Counter("step 0" if s.step == 0 else f"step {s.step}" for _, s in results if s is not None)
    lines = [
        "# The failure corpus",
        "",
        f"`make corpus`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), no GPU, "
        f"Python {platform.python_version()}, {seconds:.0f} s. Short trials of the embedded miniature, each checked by "
        "the self-test; the code that plants the failures is `tests/corpus/`.",
        "",
        f"- **Recall**: {len(in_time)} of {len(results)} planted failures were found by their own check, in time.",
        f"- **Detection**: {delays['step 0']} before the first training step; "
        f"the others at {', '.join(k for k in sorted(delays, key=lambda k: int(k.split()[1])) if k != 'step 0')}.",
        f"- **False alarms**: {len(alarms)} in {len(healthy)} healthy runs.",
        "",
        "A false-alarm rate of 0 in n runs is below 3/n with 95 % confidence: "
        f"here {300 / max(1, len(healthy)):.1f} % of runs.",
        "",
        "## Planted failures",
        "",
        "Step 0 is the self-test, before training; evals are at steps 4 and 8.",
        "",
        "| failure | planted as | found by | at step | at the latest | evidence |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(one, seen) for one, seen in sorted(results, key=lambda pair: pair[0].failure)),
        "",
        *(f"- {text}" for text in NOTES),
        "",
        "## Unusual but healthy runs",
        "",
        "| control | runs | alarms |",
        "| --- | --- | --- |",
        *_control_rows(healthy),
        "",
        *(f"- {what}: {one.check} at step {one.step}: {one.evidence}" for what, one in alarms),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _row(one: Injection, seen: Seen | None) -> str:
    if seen is None:
        return f"| {one.failure} | {one.what} | **missed** | - | {one.latest_step} | - |"
    evidence = seen.evidence.replace("|", "\\|")
    found = f"`{seen.check}`" if seen.level == "invalid" else f"`{seen.check}` ({seen.level})"
    return f"| {one.failure} | {one.what} | {found} | {seen.step} | {one.latest_step} | {evidence} |"


def _control_rows(healthy: list[tuple[str, list[Seen]]]) -> list[str]:
    runs, alarms = Counter(what for what, _ in healthy), Counter(what for what, seen in healthy if seen)
    return [f"| {control.what} | {runs[control.what]} | {alarms[control.what]} |" for control in CONTROLS]


def main(
    out: Annotated[Path, typer.Option(help="Output page.")] = Path("docs/corpus.md"),
    healthy_runs: Annotated[int, typer.Option(min=1, help="Number of healthy trials.")] = HEALTHY_RUNS,
) -> None:
    """Run the corpus and write the page: about ten minutes on two cores, exit code 1 on a miss or a false alarm."""
    warnings.simplefilter("ignore")  # bitsandbytes' int8 repeats one warning on every matmul
    began, results, healthy = time.perf_counter(), [], []
    with benches() as found:
        for one, seen in recall(found):
            typer.echo(f"{one.failure} {one.what}: {f'{seen.check} at step {seen.step}' if seen else 'MISSED'}")
            results.append((one, seen))
        for what, alarms in false_alarms(found, healthy_runs):
            for alarm in alarms:
                typer.echo(f"FALSE ALARM in {what}: {alarm}")
            healthy.append((what, alarms))
            if len(healthy) % len(CONTROLS) == 0:
                typer.echo(f"{len(healthy)} of {healthy_runs} healthy runs, {sum(bool(a) for _, a in healthy)} alarms")
    text = page(results, healthy, time.perf_counter() - began)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    typer.echo("\n".join(line for line in text.splitlines() if line.startswith("- **")))
    missed = any(seen is None or seen.step > one.latest_step for one, seen in results)
    is_faulty = missed or any(alarms for _, alarms in healthy)
    raise typer.Exit(ExitCode.CHECK_FAILED if is_faulty else ExitCode.DONE)


if __name__ == "__main__":
    run(main)
