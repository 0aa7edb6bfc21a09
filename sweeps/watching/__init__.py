"""Watches experiments from outside a launch: reads their records, and asks no launch.

- `experiments`: Finds the experiments of a storage, with their size on disk and their last change.
- `launches`: The launch that holds an experiment, as others see it by its lease: in words, and for JSON.
- `listing`: The experiments of a storage as a list: trials, how many ended, size on disk, last change.
- `removal`: Removes an experiment: its directory, and its runs in MLflow.
- `status`: What an experiment does now: its launch, its trials, the time that is left, and the free space.
- `status_text`: The status of experiments as text for a terminal, and as JSON.
- `trial_log`: The log of a trial, as lines: its self-test, its measurements, its verdict, and the phase it is in.
"""
