"""Trains a single trial on an engine.

- `answered`: What a trial has answered so far: the drafts of its next eval.
- `asking`: Asks rows of the reserve: those that the guards of a trial need to decide, and all of them for the baseline.
- `baseline`: The baseline trial: evaluates the base without an adapter, as the reference for all other trials.
- `batch_parts`: Cuts a batch into parts of fewer rows, whose gradients add up to those of the whole batch.
- `failures`: Turns expected errors of a trial into a verdict.
- `gradients`: The forward and backward of one optimizer step of a trial that is alone on the base.
- `layer_gradients`: Measures how much each linear would be changed first: the gradient of its lora_B, which is 0, on a
  few rows.
- `memory_fit`: Fits the steps of a trial into the memory of its device: fewer rows a pass, then activations computed
  twice.
- `progress`: The progress of a trial, which its checkpoints keep.
- `trial`: One trial on an engine: begins or resumes it, then trains, evaluates and checkpoints until it has a
  verdict.
- `resuming`: Chooses the checkpoint from which a trial resumes: the newest one whose measurements are still there.
- `trial`: One trial on an engine: places its adapter, then trains, evaluates and checkpoints until it has a verdict.
"""
