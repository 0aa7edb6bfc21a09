"""Trains a single trial on an engine.

- `baseline`: The baseline trial: evaluates the base without an adapter, as the reference for all other trials.
- `failures`: Turns expected errors of a trial into a verdict.
- `trial`: One trial on an engine: begins or resumes it, then trains, evaluates and checkpoints until it has a
  verdict.
- `resuming`: Chooses the checkpoint from which a trial resumes: the newest one whose measurements are still there.
- `trial`: One trial on an engine: places its adapter, then trains, evaluates and checkpoints until it has a verdict.
"""
