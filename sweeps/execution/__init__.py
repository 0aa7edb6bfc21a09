"""Runs trials on Ray.

- `adapter_space`: Which adapters a launch keeps: those of the trials that have no result yet must find space.
- `baselines`: Reads the scores of the base from the baseline's record.
- `begun_records`: Checks the records of an experiment before a launch adds to them: damage, changed base and data, lost
  baselines.
- `cluster`: Checks that every node of a Ray cluster has the same storage, data and libraries as the driver, and can
  train.
- `engine_plan`: Plans the engines of a launch, and which trials each of them trains; imports no torch.
- `experiment`: The directory of one experiment: configuration and format, and its trials' records.
- `holdout_file`: The holdout of an experiment, in `holdout.json`: it may be added later, but never exchanged.
- `later_evals`: Evals of an experiment after its trials have ended: of derived copies, finalists, and the picks on the
  holdout.
- `lease_holder`: Holds the lease of an experiment for one launch: takes it, keeps its heartbeat, and notices when it is
  lost.
- `named_copies`: Finds the adapters of candidates that are named on a command line, such as `C2 @ 60 x 0.5`.
- `options`: The options of a launch.
- `ray_session`: Starts Ray on this machine, or joins a cluster, and keeps secrets out of what Ray writes.
- `run`: Runs the records of an experiment in one session with Ray and MLflow, baselines first.
- `schedulers`: Ray Tune's schedulers as options, checked before a launch.
- `session`: Keeps what `tuner` started, Ray and engines, and the MLflow mirror open while a launch runs its batches
  of trials.
- `storage`: Free storage: what the adapters of a launch need, whether it is there, and which adapters are kept.
- `tuner`: Runs trials under Ray Tune: starts Ray and the engines, sends requests, retries them, and handles Ctrl-C.
"""
