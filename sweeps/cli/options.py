"""Options that command lines share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass


EXIT_CODES = (
    "Exit codes: 0 all trials have a result (pruned is a result) · 2 bad input, nothing was spent · "
    "3 some trials are invalid, infeasible or failed · 4 a record is damaged · 5 another launch runs this experiment · "
    "130 stopped, everything checkpointed, resume with --resume."
)


SPACE, MODEL, RUN = "Space", "Model and data", "Run"


Only = Annotated[str, typer.Option(help="Arms to run, e.g. A1,C2.", rich_help_panel=SPACE)]


Winners = Annotated[Path | None, typer.Option(help="winners.json of `analysis pareto`: its placements are the arms.",
                                              show_default="none", rich_help_panel=SPACE)]  # fmt: skip


Recommended = Annotated[bool, typer.Option("--recommended", help="Only the arms to try first.", rich_help_panel=SPACE)]


Rank = Annotated[str, typer.Option(help="Ranks, e.g. 8,16,32; alpha keeps its ratio.", rich_help_panel=SPACE)]


Rate = Annotated[str, typer.Option("--lr", help="Language rates, e.g. 1e-4,3e-4; vision keeps its ratio.",
                                   rich_help_panel=SPACE)]  # fmt: skip


Quant = Annotated[str, typer.Option(help="none, int8, fp4, nf4, nf4-double.", rich_help_panel=SPACE)]


Seeds = Annotated[int, typer.Option(min=1, help="Seeds per arm: 3 means 0, 1, 2.", rich_help_panel=SPACE)]


Steps = Annotated[int, typer.Option(min=0, help="Optimizer steps.", rich_help_panel=SPACE, show_default="the study's")]


Epochs = Annotated[float, typer.Option(min=0, help="Passes over the data, instead of --steps.", rich_help_panel=SPACE,
                                       show_default="the study's")]  # fmt: skip


EvalEvery = Annotated[int, typer.Option(min=0, help="Steps between evals.", rich_help_panel=SPACE,
                                        show_default="the study's")]  # fmt: skip


Set = Annotated[str, typer.Option("--set", help="Other settings, e.g. schedule=stable,batch_warmup_ratio=0.2.",
                                  show_default="the study's", rich_help_panel=SPACE)]  # fmt: skip


BaseOption = Annotated[str, typer.Option("--base", help="Model directory or hub name.", show_default="the miniature",
                                         rich_help_panel=MODEL)]  # fmt: skip


Data = typer.Option(help="JSONL or a JSON array, or dataset_info.json:NAME.", rich_help_panel=MODEL)


Train = Annotated[Path | None, Data]


Validation = Annotated[Path | None, typer.Option("--val", help="JSONL, held out.", rich_help_panel=MODEL)]


Ood = Annotated[Path | None, typer.Option("--ood", help="JSONL of irrelevant, caption and text rows.",
                                          rich_help_panel=MODEL)]  # fmt: skip


Drop = Annotated[str, typer.Option(help="Filter the training rows: duplicates, near-duplicates, contradictions, "
                                   "degenerate, broken, short:N, long:N (characters).", show_default="none",
                                   rich_help_panel=MODEL)]  # fmt: skip


InitFrom = Annotated[Path | None, typer.Option(help="LoRA directory that every arm goes on from, or adds "
                                               "modules to.", show_default="none", rich_help_panel=MODEL)]  # fmt: skip


RestartFrom = Annotated[Path | None, typer.Option(help="An earlier one: every arm goes on from it in a second trial, "
                                                  "for contrast.", show_default="none",
                                                  rich_help_panel=MODEL)]  # fmt: skip


Storage = Annotated[Path, typer.Option(help="Where records go.", rich_help_panel=RUN)]


Experiment = Annotated[str, typer.Option(help="Its name.", show_default="the study's", rich_help_panel=RUN)]


Tracking = Annotated[str, typer.Option(help="MLflow store.", show_default="sqlite:///mlflow.db", rich_help_panel=RUN)]


Address = Annotated[str, typer.Option(help="Ray cluster, e.g. auto.", show_default="this machine",
                                      rich_help_panel=RUN)]  # fmt: skip


Cohort = Annotated[int, typer.Option(min=0, help="Trials at most trained together on one base; 1 trains each alone.",
                                     show_default="what fits and is fastest", rich_help_panel=RUN)]  # fmt: skip


SchedulerName = Annotated[str, typer.Option("--scheduler", help="Stop trials that fall behind: asha, median.",
                                            show_default="none", rich_help_panel=RUN)]  # fmt: skip


SchedulerOptions = Annotated[str, typer.Option(help="Its options, e.g. metric=eval_loss,grace_period=30.",
                                               rich_help_panel=RUN)]  # fmt: skip


DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the matrix, touch nothing.", rich_help_panel=RUN)]


Force = Annotated[bool, typer.Option("--force", help="Run what the plan refuses; the records say so.",
                                     rich_help_panel=RUN)]  # fmt: skip


Resume = Annotated[bool, typer.Option("--resume", help="Finish what the experiment began.", rich_help_panel=RUN)]


Sync = Annotated[bool, typer.Option("--sync", help="Complete MLflow from the records.", rich_help_panel=RUN)]
