"""The errors of guards, by simulation: how often they stop a healthy arm, and how often they miss a broken one.

An arm stays at one true rate over all evals. A row keeps its answer from one eval to the next with probability
`PERSISTENCE`, else it answers anew, so that this is the correlation of its answers at consecutive evals. The seed is
fixed: a plan always prints the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from sweeps.planning.finding import PreflightFinding
from sweeps.planning.pick_rows import KIND_OF_METRIC
from trainables.decision import Guard
from trainables.guards import Ceiling, Floor, Widening
from trainables.hypothesis_tests import boundary, log_likelihood_ratio
from trainables.probes.reserve import CORE_ROWS, RESERVED_METRICS
from trainables.spec import FORMAT, RESERVE_FORMAT, Format
from trainables.tested_guards import ASKED_AT_ONCE, MARGIN, RUN_ERROR, Reading

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

SEED = 0
PERSISTENCE = 0.75  # assumed correlation of a row's answers at consecutive evals
LIKENESS = 0.48  # assumed correlation of a row's answers between an arm and the baseline
RUNS, MOST_EVALS = 400, 8_000  # simulated runs, and their evals together, so that a plan takes about a second
GAP_RUNS = 2000
COARSE_MARGIN = 0.25  # beyond the limit: what a test on a few dozen rows is to see
GAP_NOISE_NATS = 0.03  # assumed standard deviation of the gap's noise at an eval
GAP_MARGIN_NATS = 0.12  # beyond the limit, reached evenly over the run: what the guard on the gap is to see
PERFECT = {"hallucination": 0.0}  # baselines before they are measured; the others answer every row


@dataclass(frozen=True)
class GuardErrors:
    """The errors of one guard over a run: `healthy` and `broken` are the true values at which they were simulated.

    `rows` is the most rows of the `given` ones that the guard reads of one eval, 0 for the guard on the gap.
    """

    metric: str
    rows: int
    evals: int
    healthy: float
    false_kill: float
    broken: float
    miss: float
    given: int = 0

    @property
    def leaves_out(self) -> bool:
        """Return whether there are rows that the guard does not read."""
        return self.given > self.rows


def guard_errors(
    guards: Sequence[Guard], reading: Reading, rows: Sequence[tuple[str, int]], evals: int,
    spec_format: Format = FORMAT,
) -> tuple[GuardErrors, ...]:  # fmt: skip
    """Return the errors of each guard that can be simulated; `rows` are the numbers of rows by kind."""
    counts, found = dict(rows), []
    for guard in guards:
        if isinstance(guard, Widening):
            found.append(_gap_errors(guard, reading, evals))
        elif isinstance(guard, Floor | Ceiling) and counts.get(KIND_OF_METRIC.get(guard.metric, "")):
            given = counts[KIND_OF_METRIC[guard.metric]]
            read = rows_read(guard.metric, reading, given, spec_format)
            found.append(replace(rate_errors(guard, reading, read, evals), given=given))
    return tuple(found)


def rows_read(metric: str, reading: Reading, given: int, spec_format: Format = FORMAT) -> int:
    """Return how many of the given rows a guard reads at most: in the exact reading the core, where there is one."""
    is_core = reading == "exact" and metric in RESERVED_METRICS and spec_format >= RESERVE_FORMAT
    return min(given, CORE_ROWS) if is_core else given


@cache
def rate_errors(rule: Floor | Ceiling, reading: Reading, rows: int, evals: int) -> GuardErrors:
    """Return the errors of a floor or a ceiling, at a perfect baseline."""
    base = PERFECT.get(rule.metric, 1.0)
    limit = _limit(rule, base)
    margin = MARGIN if rule.metric in RESERVED_METRICS else COARSE_MARGIN
    way = 1.0 if isinstance(rule, Floor) else -1.0
    healthy, broken = (float(min(1.0, max(0.0, limit + sign * way * margin))) for sign in (1.0, -1.0))
    killed = [kill_share(rule, reading, rows, evals, rate, base) for rate in (healthy, broken)]
    return GuardErrors(rule.metric, rows, evals, healthy, killed[0], broken, 1.0 - killed[1], rows)


def kill_share(
    rule: Floor | Ceiling, reading: Reading, rows: int, evals: int, rate: float, base: float, runs: int = 0
) -> float:
    """Return the share of runs that a guard ends, of arms at a true `rate` and a baseline at a true rate `base`.

    `rows` are those of every eval; a sequential test reads the core first and the others where it needs them.
    """
    import numpy as np

    rng = np.random.default_rng(SEED)
    runs = runs or max(100, min(RUNS, MOST_EVALS // evals))
    baseline = rng.random((runs, rows), dtype=np.float32) < base
    answers = _answers(rng, baseline, rate, base, evals)
    if reading == "exact":
        limit = _limit(rule, baseline.mean(axis=1))[:, None]
        shares = answers.mean(axis=2)
        broken = shares < limit - 1e-9 if isinstance(rule, Floor) else shares > limit + 1e-9
    elif rule.metric in RESERVED_METRICS:
        broken = _sequential(rule, answers, baseline, RUN_ERROR / evals)
    else:
        broken = _binomial(rule, answers, baseline, RUN_ERROR / evals)
    return float(_ever_for(broken, rule.patience_evals).mean())


def rows_asked(rule: Floor | Ceiling, rows: int, evals: int, rate: float, base: float) -> float:
    """Return how many rows one eval asks on average until the sequential test decides or none are left."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    baseline = rng.random((GAP_RUNS, rows), dtype=np.float32) < base
    right, known = _answers(rng, baseline, rate, base, 1).cumsum(axis=2)[:, 0], baseline.cumsum(axis=1)
    asked, undecided = np.zeros(GAP_RUNS), np.full(GAP_RUNS, True)
    for count in looks(rows):
        asked[undecided] = count
        ratio = log_likelihood_ratio(right[:, count - 1], count, _limit(rule, known[:, count - 1] / count), MARGIN)
        undecided &= np.abs(ratio) < boundary(RUN_ERROR / evals)
    return float(asked.mean())


def looks(rows: int) -> list[int]:
    """Return after how many rows the sequential test looks: at the core, then at every batch of the reserve."""
    return sorted({*range(min(rows, CORE_ROWS), rows, ASKED_AT_ONCE), rows})


def _answers(rng: np.random.Generator, baseline: Array, rate: float, base: float, evals: int) -> Array:
    """Return right answers, (runs, evals, rows); the first eval keeps the baseline's in `LIKENESS` of the rows."""
    import numpy as np

    anew = min(1.0, max(0.0, (rate - LIKENESS * base) / (1.0 - LIKENESS)))

    def happens(probability: float) -> Array:
        return rng.random(baseline.shape, dtype=np.float32) < probability

    kept = happens(LIKENESS) & (0.0 < base < 1.0)
    answers = [np.where(kept, baseline, happens(_first(rate, base, anew)))]
    for _ in range(evals - 1):
        answers.append(np.where(happens(PERSISTENCE), answers[-1], happens(rate)))
    return np.stack(answers, axis=1)


def _first(rate: float, base: float, anew: float) -> float:
    # a baseline that is always right or always wrong is not correlated with anything
    return anew if 0.0 < base < 1.0 else rate


def _sequential(rule: Floor | Ceiling, answers: Array, baseline: Array, error: float) -> Array:
    import numpy as np

    broken, undecided = (np.full(answers.shape[:2], value) for value in (False, True))
    right, known = answers.cumsum(axis=2, dtype=np.int16), baseline.cumsum(axis=1)
    for asked in looks(answers.shape[2]):
        limit = _limit(rule, known[:, asked - 1] / asked)[:, None]
        ratio = log_likelihood_ratio(right[:, :, asked - 1], asked, limit, MARGIN)
        beyond = ratio >= boundary(error) if isinstance(rule, Floor) else ratio <= -boundary(error)
        broken |= undecided & beyond
        undecided &= np.abs(ratio) < boundary(error)
    return broken


def _binomial(rule: Floor | Ceiling, answers: Array, baseline: Array, error: float) -> Array:
    from scipy.stats import binom

    limit, rows, right = _limit(rule, baseline.mean(axis=1))[:, None], answers.shape[2], answers.sum(axis=2)
    below = isinstance(rule, Floor)
    return (binom.cdf(right, rows, limit) if below else binom.sf(right - 1, rows, limit)) <= error


def _limit(rule: Floor | Ceiling, base: Any) -> Any:
    import numpy as np

    if isinstance(rule, Floor):
        return np.maximum((1.0 - rule.max_relative_drop) * base, rule.min_absolute)
    return base + rule.max_absolute_rise


def _ever_for(broken: Array, patience: int) -> Array:
    """Return in which runs `patience` consecutive evals are broken."""
    import numpy as np

    if broken.shape[1] < patience:
        return np.zeros(len(broken), dtype=bool)
    spans = np.lib.stride_tricks.sliding_window_view(broken, patience, axis=1)
    return np.any(np.all(spans, axis=2), axis=1)


@cache
def _gap_errors(rule: Widening, reading: Reading, evals: int) -> GuardErrors:
    broken = rule.max_widening + GAP_MARGIN_NATS
    killed = [gap_kill_share(rule, reading, evals, widening) for widening in (0.0, broken)]
    return GuardErrors(rule.metric, 0, evals, 0.0, killed[0], broken, 1.0 - killed[1])


def gap_kill_share(
    rule: Widening, reading: Reading, evals: int, widening: float, noise: float = GAP_NOISE_NATS
) -> float:
    """Return the share of runs that the guard on the gap ends, of arms whose true gap widens evenly by `widening`.

    The bootstrap over rows is simulated by its normal limit, whose standard error is that of a paired difference.
    """
    import numpy as np
    from scipy.stats import norm

    rng = np.random.default_rng(SEED)
    gaps = np.linspace(0.0, widening, evals) + noise * rng.standard_normal((GAP_RUNS, evals))
    smallest = np.minimum.accumulate(gaps, axis=1).clip(min=0.0)
    surplus = norm.ppf(1.0 - RUN_ERROR / evals) * noise * 2**0.5 if reading == "tested" else 0.0
    wide = gaps - smallest > rule.max_widening + surplus
    if evals <= rule.worsening_intervals:
        return 0.0
    grew = np.lib.stride_tricks.sliding_window_view(np.diff(gaps, axis=1) > 0, rule.worsening_intervals, axis=1)
    return float((grew.all(axis=2) & wide[:, rule.worsening_intervals :]).any(axis=1).mean())


# -------------------------------------------------------------------- in the plan
FEW_EVALS = 4  # below which a guard may lack the evals that it needs
MOST_MISSED = 0.5  # of broken arms, above which a guard cannot see what it is to see


def errors_text(errors: Sequence[GuardErrors], reading: Reading) -> str:
    """Return the errors of all guards as text, one line for each guard; empty without any."""
    if not errors:
        return ""
    how = f"tested, error at most {RUN_ERROR:.0%} a run" if reading == "tested" else "exact, by the numbers as they are"
    lines = [f"Guards ({how}), simulated at {errors[0].evals} evals:"]
    for one in errors:
        rows = f" ({_rows(one)})" if one.rows else ""
        lines.append(
            f"    {one.metric}{rows}: stops {one.false_kill:.0%} at {one.healthy:.2f}, "
            f"misses {one.miss:.0%} at {one.broken:.2f}"
        )
    return "\n".join(lines)


def blind_guards(errors: Sequence[GuardErrors]) -> list[PreflightFinding]:
    """Return a warning for each guard that misses most of the arms that it is to stop."""
    return [
        PreflightFinding(
            "warn",
            "guard_power",
            f"the guard on {one.metric} should stop an arm at {one.broken:.2f}, but with {size_text(one)} it misses "
            f"{one.miss:.0%} of them",
            _power_hint(one),
        )
        for one in errors
        if one.miss > MOST_MISSED
    ]


def _power_hint(one: GuardErrors) -> str:
    if one.miss == 1.0 and one.evals < FEW_EVALS:
        return "evaluate more often, with --eval-every: it needs several evals in a row"
    if one.leaves_out:
        return "--guards tested asks the other rows too, where it cannot decide without them"
    if one.rows:
        return "give more out-of-distribution rows of that kind: 192 irrelevant, 30 caption, 112 text"
    return "evaluate less often, or give more validation rows"


def size_text(one: GuardErrors) -> str:
    return f"{_rows(one)} and {one.evals} evals" if one.rows else f"{one.evals} evals"


def _rows(one: GuardErrors) -> str:
    return f"{one.rows} of {one.given} rows" if one.leaves_out else f"{one.rows} rows"
