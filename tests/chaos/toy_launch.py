"""A launch in one process, without Ray and torch: `python toy_launch.py DIRECTORY`; again, it resumes.

Experiment, lease, claims and records are the real ones; the trials train by hashing (`tests/sweeps/fake_world.py`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "sweeps"))

from fake_world import FakeTrial, planned, verdict_at  # type: ignore[import-not-found] found by the line above

from sweeps.execution.experiment import Experiment, reopened
from trainables import lease
from trainables.spec import FORMAT


def main(directory: Path) -> None:
    """Launch, or resume."""
    seen: Any = SimpleNamespace(has_ended=lease.has_ended)
    with Experiment(directory).held() as experiment:
        experiment.configure({"format": FORMAT})
        specs = [spec for spec in planned(directory) if spec.name != "broken"]
        for record in reopened(experiment.begin(specs)):
            trial = FakeTrial.opened(seen, record.home, experiment.launch, lease.this_process())
            verdict = verdict_at(trial.spec.name, trial.step) if trial and trial.record.evals() else None
            if trial is not None and verdict is not None:
                trial.record.close(verdict)
            while trial is not None and verdict is None:
                trial.train()
                verdict = trial.evaluate() if trial.step % trial.spec.eval_every_steps == 0 else None


if __name__ == "__main__":
    if "--in-place" in sys.argv:  # a planted fault: files are written where they are read
        from trainables import record
        from trainables.io import files

        def in_place(path: Path, text: str) -> None:
            import os

            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())

        files.write_text = record.write_text = in_place  # type: ignore[assignment]
    main(Path(sys.argv[1]))
