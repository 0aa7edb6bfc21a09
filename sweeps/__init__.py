"""Declares studies, plans their trials and runs them on Ray.

From Python::

    from sweeps import Arm, Axes, Study, run

    study = Study("mine", "Which of two?", arms=(Arm("A1", language=2, vision=0), Arm("B1", language=0, vision=2)))
    records = run(study, Axes(seeds=3))

- `cli/`: Command lines: parses options and calls the launch.
- `commands`: Commands: how much LoRA a command-line assistant takes before it loses other tasks or obeys dangerous
  requests.
- `continuation`: Continuation: the same training from a parent that kept its generality and from one that lost it.
- `coverage`: Coverage: how much of the data a run must see, and at which learning rate, before it learns anything.
- `curriculum`: Curriculum: stages that continue one adapter, each on its own rows and at a lower rate.
- `display/`: Text and tables that a sweep prints in the terminal.
- `doctor`: Checks that this machine or cluster can run a sweep; each line shows a result and, if needed, a hint.
- `down`: Takes a cluster down: `ray down`, and what it leaves behind on machines of your own.
- `execution/`: Runs trials on Ray.
- `explain`: Explains a placement before anything is run: modules, parameters, what arms share, and expressions for
  other tools.
- `explaining/`: Explains a placement before anything is run: its modules, what arms share, and the same placement in
  other tools.
- `finalists`: Finalists: asks the candidates for the pick every row, those of the reserve too.
- `holdout`: Holdout: measures the picks, and the base, on rows that no eval of a trial has asked.
- `hpo/`: Searches placements and settings with Optuna.
- `importers/`: Converts configurations of axolotl, ms-swift and LLaMA-Factory to trials; every key is used, ignored
  or refused.
- `job`: Jobs: what a launch plans, shows and runs, whether a study, a staged study, a search or an imported
  configuration.
- `launch`: Launches a study of independent trials, or resumes it.
- `modules`: Modules: which kind of linears LoRA adapts, and in which layers, beside how many of them.
- `narrow`: Narrow: ranks 8, 16 and 32 at 0.5, 1 and 2 times the rates, on Stage 4's winners and with one language
  layer.
- `planning/`: Expands studies into trial specs and checks them; runs nothing.
- `project/`: Writes a directory for a base and rows of the user's own: `footprint init`.
- `quantization`: Quantization: the same arm on five quantizations of its base, with the same seed and data order.
- `response`: Response: fit and generality over every placement of 1 to 4 language layers and 0 to 6 vision blocks.
- `rescale`: Rescale: evaluates every kept adapter at parts of its strength, and the average of its last evals, without
  training.
- `search`: Search: a sampler chooses placement, rank, rates, dropout, quantization and epochs from the results so
  far.
- `smoke`: Smoke: a run of ten steps that checks a setup before a real study.
- `stage4`: Stage 4: how many LoRA modules, and in which tower, a model takes before it loses its generality.
- `stages/`: Trains one adapter in several stages, one after another.
- `study`: The parts of a study: arms, settings, guards and preflight limits.
- `tracking/`: Copies records to MLflow.
- `trial`: Runs one trial from a configuration of axolotl, ms-swift or LLaMA-Factory, or from a spec.json, and
  variants of it.
- `unfreeze`: Unfreeze: 2, then 4, then 6 vision blocks.
- `watching/`: Watches experiments from outside a launch: reads their records, and asks no launch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.launch import resume, run
    from sweeps.planning.space import Axes
    from sweeps.study import Arm, Study

__all__ = ["Arm", "Axes", "Launch", "Study", "resume", "run"]

# imported when they are used, so that `import sweeps` loads no library
_MODULES = {
    "Arm": "sweeps.study",
    "Axes": "sweeps.planning.space",
    "Launch": "sweeps.execution.options",
    "Study": "sweeps.study",
    "resume": "sweeps.launch",
    "run": "sweeps.launch",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module `sweeps` has no attribute `{name}`")
    return getattr(import_module(_MODULES[name]), name)
