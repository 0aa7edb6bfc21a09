"""Simulates how often each guard stops arms at stated true rates, and writes docs/guards.md.

python -m benchmarks.guards                  about two minutes on an idle core
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import typer

from sweeps.planning.guard_errors import (
    COARSE_MARGIN,
    GAP_NOISE_NATS,
    LIKENESS,
    PERSISTENCE,
    gap_kill_share,
    kill_share,
    rows_asked,
    rows_read,
)
from trainables.command import run
from trainables.guards import CAPTION_GUARD, GAP_GUARD, HALLUCINATION_GUARD, PASS_GUARD, TEXT_GUARD, Ceiling, Floor
from trainables.probes.reserve import CORE_ROWS
from trainables.tested_guards import MARGIN, RUN_ERROR, Reading

PAGE = Path("docs/guards.md")
EVALS = (4, 10, 20)
RUNS = 2000
READINGS: tuple[Reading, ...] = get_args(Reading)

INTRODUCTION = f"""# Guards and their errors

A guard decides at every eval by a test. What is undecided when no rows are left is not broken. The error of a run,
{RUN_ERROR:.0%}, is shared by its evals.

| guard | test | rows of one eval |
| --- | --- | --- |
| irrelevant_pass, hallucination | Wald's sequential probability ratio test | the core, then reserve while undecided |
| caption_sanity, text_retention, rates on validation rows | exact one-sided binomial test at the limit | all |
| generalization_gap | Bayesian bootstrap over rows, paired between evals | all validation and training rows |

The sequential test compares the limit + {MARGIN:g} with the limit - {MARGIN:g}, on {CORE_ROWS} rows of the core and as
many of the reserve as it needs. Thresholds and patience are those of `trainables/guards.py`. `--guards exact` compares
the numbers of the core as they are. Every plan prints these errors at its own rows and evals, and warns of a guard that
misses more than half of the arms that it is to stop.

Only the core gives metrics, and so the best checkpoint, the frontier and every comparison: rows that are asked until a
test decides would bias a rate. A fall of one kind of picture is recorded and shown, and never stops an arm.

## What was simulated

An arm stays at one true rate over all evals. A row keeps its answer between consecutive evals with probability
{PERSISTENCE:g}, and shares it with the baseline with probability {LIKENESS:g}. The gap has independent noise at every
eval, {GAP_NOISE_NATS:g} nats in a plan. These three are assumed, not measured; rows are taken to be alike
otherwise. `python -m benchmarks.guards` writes this page; the seed is fixed.
"""


@dataclass(frozen=True)
class Case:
    """One row of the table: a guard, its rows, and the true rates of baseline and arm."""

    rule: Floor | Ceiling
    rows: int
    base: float
    rate: float

    @property
    def shown(self) -> str:
        """Return the first columns of the row."""
        return f"{self.rule.metric} | {self.rows} | {self.base:.2f} | {self.rate:.2f}"


def cases() -> Iterator[Case]:
    """Yield the simulated cases, around each limit, with baselines that are perfect and that are not."""
    for base in (1.0, 0.95):
        yield from (Case(PASS_GUARD, 192, base, rate) for rate in (0.95, 0.90, 0.85, 0.80, 0.75, 0.70))
    yield from (Case(PASS_GUARD, CORE_ROWS, 1.0, rate) for rate in (0.85, 0.80, 0.75))
    for base in (0.0, 0.10):
        yield from (Case(HALLUCINATION_GUARD, 192, base, base + rise) for rise in (0.05, 0.10, 0.15, 0.20, 0.25))
    yield from (Case(CAPTION_GUARD, rows, 1.0, rate) for rows in (5, 30) for rate in (0.80, 0.60, 0.60 - COARSE_MARGIN))
    yield from (Case(TEXT_GUARD, 112, 0.95, rate) for rate in (0.86, 0.76, 0.66))


def page(runs: int) -> str:
    """Return the page, from `runs` simulated runs of each case."""
    lines = [INTRODUCTION, *_rates(runs), "", *_asked(), "", *_gaps(), ""]
    return "\n".join(lines) + READING_IT + _at_the_limit(runs)


def _at_the_limit(runs: int) -> str:
    evals = EVALS[-1]

    def shares(rule: Floor | Ceiling, rates: Sequence[tuple[float, float]]) -> str:
        found = sorted(f"{kill_share(rule, 'tested', 192, evals, rate, base, runs):.2f}" for base, rate in rates)
        return found[0] if found[0] == found[-1] else f"{found[0]} to {found[-1]}"

    return (
        f"- At the limit itself no test can be right. Of arms exactly there, {evals} evals stop "
        f"{shares(PASS_GUARD, ((1.0, 0.80), (0.95, 0.80)))} by the guard on the pass,\n  which needs two evals, and "
        f"{shares(HALLUCINATION_GUARD, ((0.0, 0.15), (0.10, 0.25)))} by that on hallucination, which needs one.\n"
    )


def _rates(runs: int) -> Iterator[str]:
    yield f"## Share of arms stopped, at {', '.join(map(str, EVALS))} evals, of {runs:,} simulated"
    yield ""
    yield "| guard | rows | baseline | arm | tested | exact |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for case in cases():
        read = [(one, rows_read(case.rule.metric, one, case.rows)) for one in READINGS]
        shares = (
            " / ".join(
                f"{kill_share(case.rule, reading, rows, evals, case.rate, case.base, runs):.2f}" for evals in EVALS
            )
            for reading, rows in read
        )
        yield f"| {case.shown} | {' | '.join(shares)} |"


def _asked() -> Iterator[str]:
    yield "## Irrelevant rows that one eval asks, on average, of 192"
    yield ""
    yield f"| true pass rate | {' | '.join(f'{evals} evals' for evals in EVALS)} |"
    yield f"| --- {'| --- ' * len(EVALS)}|"
    for rate in (0.99, 0.95, 0.90, 0.85, 0.80, 0.75):
        asked = (f"{rows_asked(PASS_GUARD, 192, evals, rate, 1.0):.0f}" for evals in EVALS)
        yield f"| {rate:.2f} | {' | '.join(asked)} |"


def _gaps() -> Iterator[str]:
    yield "## The gap"
    yield ""
    yield "| true widening over the run, nats | noise | tested | exact |"
    yield "| --- | --- | --- | --- |"
    for noise in (0.03, 0.05):
        for widening in (0.0, 0.06, 0.12, 0.18, 0.24):
            shares = (
                " / ".join(f"{gap_kill_share(GAP_GUARD, reading, evals, widening, noise):.2f}" for evals in EVALS)
                for reading in READINGS
            )
            yield f"| {widening:.2f} | {noise:.2f} | {' | '.join(shares)} |"


READING_IT = """
## How to read it

- With two evals of patience and few evals, a guard misses some arms just beyond the limit; with more evals it sees
  them, and its error over the run does not grow.
- The exact reading stops healthy arms more often the more often it looks.
- A relative limit on few rows is itself uncertain: with a baseline at 0.10, the guard on hallucination stops a few more
  arms at 0.20 than its error of a run.
- Patience counts evals: with evals more often, two consecutive ones lie fewer steps apart, and a guard acts earlier.
  The error of one eval is that of the run divided by their number, so healthy arms are not stopped more often for it.
- Five captions can show nothing; thirty show an arm that has lost most of them.
- The gap's test knows the noise of rows only. An arm that widens slowly is missed; the loss itself then says so.
"""


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    runs: Annotated[int, typer.Option(min=100, help="Simulated runs of each case.")] = RUNS,
    out: Annotated[Path, typer.Option(help="The page to write.")] = PAGE,
) -> None:
    """Simulate every guard at 4, 10 and 20 evals, and write the page."""
    from trainables.io.files import write_text

    write_text(out, page(runs))
    typer.echo(out)


if __name__ == "__main__":
    run(app)
