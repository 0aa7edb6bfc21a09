"""Runs trials on Ray.

- `adapter_space`: Which adapters a launch keeps: those of the trials that have no result yet must find space.
- `baselines`: Reads the scores of the base from the baseline's record.
- `baselines_ahead`: Measures the baselines of a launch on an engine while Ray Tune starts the workers of the arms.
- `begun_records`: Checks the records of an experiment before a launch adds to them: damage, changed base and data, lost
  baselines.
- `cache_options`: Reads --cache and --cache-gb: where engines keep what frozen layers compute.
- `cluster`: Checks that every node of a Ray cluster has the same storage, data and libraries as the driver, and can
  train.
- `cluster_file`: What a launch on a cluster needs to know of the file that `ray up` reads, such as `cluster.yaml`.
- `engine_plan`: Plans the engines of a launch, and which trials each of them trains; imports no torch.
- `engine_text`: Says how many engines a launch starts and how many threads each of them has.
- `experiment`: The directory of one experiment: configuration and format, and its trials' records.
- `fleet`: The engines of a launch: starts them, adds those of nodes that join, and forgets those of nodes that are
  lost.
- `forecast`: What a launch is forecast to take, as text; and how many trials an engine begins with, by the memory of
  its device.
- `holdout_file`: The holdout of an experiment, in `holdout.json`: it may be added later, but never exchanged.
- `job_server`: Ray's job server: reaches it, counts the nodes, submits jobs, and follows their logs.
- `joining`: Tries whether a Ray cluster can be joined, in a process that is ended when no answer comes.
- `known_results`: Gives baselines the results that this storage already knows, and lets it know those that a launch
  measures.
- `later_evals`: Evals of an experiment after its trials have ended: of derived copies, finalists, and the picks on the
  holdout.
- `launch_data`: The base and the data that a launch names, with a holdout split off its rows where it asks for one.
- `lease_holder`: Holds the lease of an experiment for one launch: takes it, keeps its heartbeat, and notices when it is
  lost.
- `measured_gradients`: Measures gradients for `--layers gradient` in another process, once, and keeps them in the
  experiment.
- `named_copies`: Finds the adapters of candidates that are named on a command line, such as `C2 @ 60 x 0.5`.
- `notifier`: Notifies of a launch: posts to a webhook or runs a command when it ends, a trial fails, or an arm is
  admissible.
- `options`: The options of a launch.
- `ray_session`: Starts Ray on this machine, or joins a cluster, and keeps secrets out of what Ray writes.
- `ray_token`: Makes the token by which Ray's processes know each other, so that only this user can read it.
- `run`: Runs the records of an experiment in one session with Ray and MLflow, baselines first.
- `relay`: Passes the events of Ray Tune to what shows and copies the trials of a launch.
- `schedulers`: Ray Tune's schedulers as options, checked before a launch.
- `session`: Keeps what `tuner` started, Ray and engines, and the MLflow mirror open while a launch runs its batches
  of trials.
- `storage`: Free storage: what the adapters of a launch need, whether it is there, and which adapters are kept.
- `submission`: What is submitted to a cluster, as words: a study, the doctor before it, and commands that watch it.
- `tried_rates`: Runs pilots, chooses the rate of each arm from them, then runs the arms' trials.
- `tuner`: Runs trials under Ray Tune: starts Ray and the engines, sends requests, retries them, and handles Ctrl-C.
"""
