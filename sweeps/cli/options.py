"""The shared options of the command lines: a frozen dataclass whose field docstrings are the help texts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sweeps.execution.cache_options import DEFAULT_GIGABYTES
from sweeps.execution.engine_plan import MOST_SEATS
from trainables.errors import EXIT_CODE_MEANINGS, UserError, named, nearest
from trainables.limits import TRAIN_SLICE_ROWS
from trainables.spec import QUANTIZATIONS
from trainables.tested_guards import Reading

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.execution.options import Launch
    from trainables.record import Keep


EXIT_CODES = f"Exit codes: {' · '.join(f'{code} {meaning}' for code, meaning in EXIT_CODE_MEANINGS.items())}."
SPACE, MODEL, RUN = "Space", "Model and data", "Run"
OPTION = "option"
KEEPS = ("all", "best")
QUANTIZED = f"Quantization of the base, of: {', '.join(QUANTIZATIONS)}."


@dataclass(frozen=True)
class Option:
    """How a field appears on a command line; a field without a panel is a positional argument.

    `flag` replaces the flag derived from the field's name, and `help` replaces the field's docstring. `short` is a
    second flag of one letter.
    """

    panel: str = ""
    flag: str = ""
    minimum: int | None = None
    shown_default: str = ""
    help: str = ""
    short: str = ""


def option(
    panel: str, flag: str = "", *, minimum: int | None = None, shown_default: str = "", short: str = "", text: str = ""
) -> dict[str, Option]:
    """Return the metadata of a field that is an option; `text` is its help where its docstring cannot say it."""
    return {OPTION: Option(panel, flag, minimum, shown_default, text, short)}


def argument(shown_default: str = "") -> dict[str, Option]:
    """Return the metadata of a field that is a positional argument."""
    return {OPTION: Option(shown_default=shown_default)}


@dataclass(frozen=True)
class LaunchOptions:
    """The options that command lines share; each command line names the ones it accepts."""

    steps: int = field(default=0, metadata=option(SPACE, minimum=0, shown_default="the study's"))
    """Optimizer steps."""
    epochs: float = field(default=0.0, metadata=option(SPACE, minimum=0, shown_default="the study's"))
    """Passes over the training rows, instead of --steps."""
    eval_every: int = field(default=0, metadata=option(SPACE, minimum=0, shown_default="the study's"))
    """Steps between evals."""
    train_slice_rows: int | None = field(
        default=None, metadata=option(SPACE, minimum=1, shown_default=f"the study's; else {TRAIN_SLICE_ROWS}")
    )
    """Training rows on which every eval measures the loss; the labels and the guard on the gap need some."""
    modules: str = field(default="", metadata=option(SPACE, shown_default="the arm's; else all"))
    """Kinds of linears that carry LoRA: attention, mlp, gate-up (a part of mlp), all."""
    layers: str = field(default="", metadata=option(SPACE, shown_default="the arm's; else last"))
    """Which layers of a tower carry LoRA: last, first and gradient (as many as the arm has, or -N), every-N, all."""
    settings: str = field(default="", metadata=option(SPACE, "--set", shown_default="the study's"))
    """Other settings, e.g. schedule=stable,batch_warmup_ratio=0.2."""
    base: str = field(default="", metadata=option(MODEL, shown_default="the miniature"))
    """Model directory or hub name."""
    train: Path | None = field(default=None, metadata=option(MODEL, shown_default="the miniature's"))
    """Training rows: JSONL or a JSON array, or dataset_info.json:NAME."""
    val: Path | None = field(default=None, metadata=option(MODEL, shown_default="the miniature's"))
    """Held-out rows: JSONL."""
    ood: Path | None = field(default=None, metadata=option(MODEL, shown_default="the miniature's"))
    """Out-of-distribution rows: JSONL with irrelevant, caption and text rows."""
    test: Path | None = field(default=None, metadata=option(MODEL, shown_default="none"))
    """Rows of the task that measure the picks at the end: JSONL."""
    ood_test: Path | None = field(default=None, metadata=option(MODEL, shown_default="none"))
    """Out-of-distribution rows that measure the picks at the end: JSONL."""
    split_holdout: bool = field(default=False, metadata=option(MODEL))
    """Split these rows off --val and --ood instead: a quarter of each kind, from 200 irrelevant rows on."""
    mix: list[str] | None = field(default=None, metadata=option(MODEL, shown_default="none"))
    """General rows to replay: general.jsonl:0.1 makes one row in ten of each pass a replay row; several are an axis,
    general.jsonl:0,0.1."""
    drop: str = field(default="", metadata=option(MODEL, shown_default="none"))
    """Filter the training rows: duplicates, near-duplicates, contradictions, degenerate, broken, short:N, long:N
    (characters)."""
    probes: str = field(default="", metadata=option(MODEL, shown_default="the study's own"))
    """Further probes at each eval: "shift lm-eval:TASK,DIR/task.yaml,TASK=ROWS.jsonl"."""
    init_from: Path | None = field(default=None, metadata=option(MODEL, shown_default="none"))
    """LoRA directory that every arm starts from: the arm continues the adapter, or adds modules to it."""
    restart_from: Path | None = field(default=None, metadata=option(MODEL, shown_default="none"))
    """Earlier LoRA directory: every arm gets a second trial that starts from it, for comparison."""
    storage: Path = field(default=Path("runs"), metadata=option(RUN))
    """Directory of the experiments."""
    experiment: str = field(default="", metadata=option(RUN, shown_default="the study's"))
    """Experiment name."""
    tracking_uri: str = field(default="", metadata=option(RUN, shown_default="sqlite:///mlflow.db"))
    """MLflow tracking URI."""
    address: str = field(default="", metadata=option(RUN, shown_default="this machine"))
    """Ray cluster, e.g. auto."""
    cohort: int = field(
        default=0, metadata=option(RUN, minimum=0, shown_default=f"up to {MOST_SEATS}, as memory allows")
    )
    """Maximum number of trials trained together on one base; 1 trains each alone."""
    threads: int = field(
        default=0, metadata=option(RUN, minimum=0, shown_default="FOOTPRINT_THREADS, or its share of the cores")
    )
    """Maximum number of threads of an engine."""
    cache: str = field(default="", metadata=option(RUN, shown_default="in memory alone"))
    """Directory on each node for what frozen layers compute for a row, read again by later epochs and launches; off
    computes it each time."""
    cache_gb: float = field(default=DEFAULT_GIGABYTES, metadata=option(RUN))
    """Most gigabytes of files below --cache."""
    keep: str = field(default="", metadata=option(RUN, shown_default="all, or best where space is short"))
    """Adapters that the records keep: all evals', or the best alone."""
    resident: str = field(default="", metadata=option(RUN, shown_default="auto"))
    """How engines hold 4-bit weights: quantized, dequantized, or auto: dequantized where memory allows."""
    price: float | None = field(default=None, metadata=option(RUN, shown_default="none"))
    """Price of an hour of one device, in any currency: the plan then forecasts money."""
    memory: str = field(default="", metadata=option(RUN, shown_default="this machine's"))
    """Gigabytes of each device that trains, e.g. 24 or 24,24; for the plan."""
    scheduler: str = field(default="", metadata=option(RUN, shown_default="none"))
    """Scheduler that stops trials with poor results early: asha or median."""
    scheduler_options: str = field(default="", metadata=option(RUN, shown_default="the scheduler's"))
    """Options of the scheduler, e.g. metric=eval_loss,grace_period=30."""
    guards: str = field(default="", metadata=option(RUN, shown_default="tested"))
    """How guards decide: tested, with an error rate over the run, or exact, by the numbers as they are."""
    notify: str = field(default="", metadata=option(RUN, shown_default="FOOTPRINT_NOTIFY"))
    """Webhook or command that is told of the end, of failed trials, and of the first admissible arm."""
    dry_run: bool = field(default=False, metadata=option(RUN))
    """Print the plan and write nothing."""
    force: bool = field(default=False, metadata=option(RUN))
    """Run although preflight refuses the plan; the records show it."""
    steal: bool = field(default=False, metadata=option(RUN))
    """Take an experiment over that another launch still runs; that launch is asked to stop."""
    fresh_baseline: bool = field(default=False, metadata=option(RUN))
    """Measure the baseline although this storage knows its results."""
    as_json: bool = field(default=False, metadata=option(RUN, "--json"))
    """Print the results, or the plan of --dry-run, as JSON; everything else goes to stderr."""
    quiet: bool = field(default=False, metadata=option(RUN, short="-q"))
    """Print the summary and errors alone."""
    verbose: bool = field(default=False, metadata=option(RUN, short="-v"))
    """Also print what libraries and Ray's workers say."""
    resume: bool = field(default=False, metadata=option(RUN))
    """Finish the trials of an existing experiment."""
    sync: bool = field(default=False, metadata=option(RUN))
    """Copy to MLflow what it lacks of the records; run nothing. Options of the launch may stay."""

    def launch(self, command: str) -> Launch:
        """Return the launch of these options; MLflow shows `command` as the command of the run.

        Raises:
            UserError: --keep is neither all nor best, --resident is no way to hold weights, --notify is no address and
                no command, a holdout is both named and to be split off, FOOTPRINT_THREADS is no number of threads, or
                the directory of --cache cannot be written.
        """
        from sweeps.execution.cache_options import cache_settings
        from sweeps.execution.engine_plan import threads_asked
        from sweeps.execution.notifier import notifier_for
        from sweeps.execution.options import Launch
        from sweeps.planning.device_memory import checked_price, devices_in
        from trainables.model.residency import residency_choice

        if self.split_holdout and (self.test or self.ood_test):
            raise UserError("--split-holdout and --test both make the holdout, but only one of them may be given")
        console = self.console()
        return Launch(
            storage=self.storage,
            experiment=self.experiment or None,
            tracking_uri=self.tracking_uri or None,
            address=self.address or None,
            cohort=self.cohort or None,
            threads=self.threads or threads_asked(os.environ),
            cache=cache_settings(self.cache, self.cache_gb),
            keep=_keep(self.keep),
            resident=residency_choice(self.resident),
            verbose=self.verbose,
            command=command,
            base=self.base or None,
            train=self.train,
            validation=self.val,
            ood=self.ood,
            test=self.test,
            ood_test=self.ood_test,
            split_holdout=self.split_holdout,
            drop=self.drop,
            force=self.force,
            steal=self.steal,
            fresh_baseline=self.fresh_baseline,
            reading=_reading(self.guards),
            notifier=notifier_for(self.notify or os.environ.get("FOOTPRINT_NOTIFY", ""), console),
            price=checked_price(self.price),
            devices=devices_in(self.memory),
            console=console,
        )

    def console(self) -> Console:
        """Return the console of progress: stderr where stdout is for JSON, and silent with --quiet.

        Raises:
            UserError: --quiet and --verbose are both given.
        """
        from rich.console import Console

        if self.quiet and self.verbose:
            raise UserError("--quiet and --verbose exclude each other, but both are given", "leave out one of them")
        return Console(stderr=self.as_json, quiet=self.quiet)

    def fixed(self) -> dict[str, Any]:
        """Return the settings that these options fix for every trial.

        Raises:
            UserError: the budget is given twice, or --set or --probes is malformed.
        """
        from sweeps.planning.overrides import parse_settings
        from sweeps.planning.probe_requests import parse_probes

        if self.steps and self.epochs:
            raise UserError("--steps and --epochs both set the budget, but only one of them may be given")
        given: dict[str, Any] = {
            "steps": self.steps,
            "epochs": self.epochs,
            "eval_every_steps": self.eval_every,
        }
        given["train_slice_rows"] = self.train_slice_rows
        given["probes"] = parse_probes(self.probes)
        return {**parse_settings(self.settings), **{name: value for name, value in given.items() if value}}


def _reading(text: str) -> Reading | None:
    for known in get_args(Reading):
        if text == known:
            return known
    if text:
        raise UserError(f"--guards must be tested or exact, but got `{named(text)}`", nearest(text, get_args(Reading)))
    return None


def _keep(text: str) -> Keep | None:
    if text not in ("", *KEEPS):
        raise UserError(f"--keep must be one of {', '.join(KEEPS)}, but got `{named(text)}`", nearest(text, KEEPS))
    return next((one for one in KEEPS if one == text), None)


# the options that --resume and --sync accept: they choose the experiment, or how it runs
ACCEPTED_BY_RESUME = (
    "storage", "experiment", "tracking_uri", "address", "cohort", "threads", "cache", "cache_gb", "keep", "resident",
    "scheduler", "scheduler_options", "force", "steal", "fresh_baseline", "notify", "as_json", "quiet", "verbose",
)  # fmt: skip
DATA = ("base", "train", "val", "ood")
HOLDOUT = ("test", "ood_test")
PLACED = ("modules", "layers")
FORECAST = ("price", "memory")
BUDGET = ("steps", "epochs", "eval_every", "train_slice_rows")
OUTPUT = ("as_json", "quiet", "verbose")
ACTIONS = ("guards", "notify", "dry_run", "force", "steal", "fresh_baseline", *OUTPUT, "resume", "sync")
