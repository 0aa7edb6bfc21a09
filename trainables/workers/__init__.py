"""Runs trials in Ray: the Tune Trainable, the engine actor, and the values that they exchange.

- `actions`: The actions that `admission` returns and the engine actor carries out.
- `admission`: Decides which trials train together and when, as a pure function `(state, event) -> (state, actions)`.
- `assignment`: Decides which engine trains a trial, and with which others.
- `backend`: Trains the trials of a worker: in its own process, or in an engine actor together with other workers'
  trials.
- `cohort_runner`: Opens and trains the cohort of an engine.
- `engine_actor`: The engine actor: one process with one base on one device, which trains the trials of many workers
  together.
- `engine_cache`: Keeps one engine and its self-test between trials, and opens trials on it.
- `events`: The events that `admission` receives: calls of workers, the time, and results of jobs.
- `protocol`: The values exchanged through Ray: a request to train trials, and a report of their progress, both with a
  version.
- `retries`: Decides whether a trial that failed is tried again, from all of its failures.
- `roster`: The actor that tells workers which engine trains their trials, and whether failed ones are tried again.
- `shared_seat`: A worker process for all trials of a group: Tune starts one process, and one thread in it waits for
  each trial.
- `trainable`: The Ray Tune Trainable: passes requests to a backend, and its reports to Tune; imports no torch.
- `watchdog`: Ends a process whose training hangs, after writing where every thread stands into the record.
"""
