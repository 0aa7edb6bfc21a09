"""Plants every failure of the corpus and runs hundreds of healthy trials: `make corpus`.

Writes `docs/corpus.md`: which check found what at which step, what was missed, and every false alarm.
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

HEALTHY_RUNS = 11 * len(CONTROLS)
STANDS_FOR = (
    "These are the failures the checks were written for: recall says that each check works, not what an unknown "
    "failure would do.",
    "F28 is no failure: rsLoRA's larger gradients are among the controls.",
    "F14 and F22 came from DeepSpeed, F18 from several processes, F02 and F25 from trainers of other projects: planted "
    "here is what they did to gradients, files, rates and flags, in one process.",
    "F16 is planted as a twentyfold loss. A factor of two is below what a loss shows; that accumulation equals "
    "one large batch is proved against the reference in `tests/trainables/training/test_trial.py`.",
    "F12 and F13 overflow through a hook on the miniature's own modules, for its weights do not overflow.",
    "F36 with bitsandbytes' own kernel needs a CPU with AVX512-BF16 and is left out elsewhere; the same cut by a hook "
    "runs everywhere.",
)


@dataclass
class Benches:
    """The benches by rows, quantization and dtype, made when first asked for."""

    directory: Path
    made: dict[tuple[str, str, str], Bench] = field(default_factory=dict)

    def of(self, quantization: str = "none", kind: str = "image", dtype: str = "float32") -> Bench:
        """Return the bench of this kind."""
        key = (quantization, kind, dtype)
        if key not in self.made:
            self.made[key] = Bench(self.directory / "-".join(key), *key)
        return self.made[key]


@contextmanager
def benches() -> Iterator[Benches]:
    """Give benches in a scratch directory and end their processes afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        found = Benches(Path(scratch))
        try:
            yield found
        finally:
            for one in found.made.values():
                one.close()


def recall(found: Benches) -> Iterator[tuple[Injection, Seen | None]]:
    """Plant every failure and tell what saw it."""
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
    """Run healthy trials and tell what fired in each: nothing, one hopes."""
    for control, changes in draws(count):
        bench = found.of(*control.bench)
        parent = at_evals.continuing(bench, changes.get("optimizer", "fresh")) if control.continues else {}
        end, *labels = bench.run(changes | parent)
        alarms = [one for one in labels if one.level == "degraded"]
        yield control.what, alarms if end.check == "completed" else [end, *alarms]


def page(results: list[tuple[Injection, Seen | None]], healthy: list[tuple[str, list[Seen]]], seconds: float) -> str:
    """Return the page with machine and date."""
    in_time = [one for one, seen in results if seen is not None and seen.step <= one.latest_step]
    alarms = [(what, one) for what, seen in healthy for one in seen]
    delays = Counter("step 0" if s.step == 0 else f"step {s.step}" for _, s in results if s is not None)
    lines = [
        "# The failure corpus",
        "",
        f"`make corpus`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), no GPU, "
        f"Python {platform.python_version()}, {seconds:.0f} s. Short trials of the embedded miniature, each proved by "
        "the self-test; the code that plants them is `tests/corpus/`.",
        "",
        f"- **Recall**: {len(in_time)} of {len(results)} planted failures were found by their own check, in time.",
        f"- **Detection**: {delays['step 0']} before the first paid step; "
        f"the others at {', '.join(k for k in sorted(delays, key=lambda k: int(k.split()[1])) if k != 'step 0')}.",
        f"- **False alarms**: {len(alarms)} in {len(healthy)} healthy runs.",
        "",
        "A false-alarm rate of 0 in n runs is below 3/n with 95 % confidence: "
        f"here {300 / max(1, len(healthy)):.1f} % of runs.",
        "",
        "## Planted failures",
        "",
        "Step 0 is the self-test, before anything is paid; evals are at steps 4 and 8.",
        "",
        "| failure | planted as | found by | at step | at the latest | evidence |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(one, seen) for one, seen in sorted(results, key=lambda pair: pair[0].failure)),
        "",
        *(f"- {text}" for text in STANDS_FOR),
        "",
        "## Healthy runs that look odd",
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
    out: Annotated[Path, typer.Option(help="Where the page is written.")] = Path("docs/corpus.md"),
    healthy_runs: Annotated[int, typer.Option(min=1, help="How many healthy trials are run.")] = HEALTHY_RUNS,
) -> None:
    """Run the corpus and write the page; takes some ten minutes on two cores, and exits 1 on a miss or an alarm."""
    warnings.simplefilter("ignore")  # int8 says the same on every matmul
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
    raise typer.Exit(1 if missed or any(alarms for _, alarms in healthy) else 0)


if __name__ == "__main__":
    typer.run(main)
