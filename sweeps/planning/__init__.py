"""Expands studies into trial specs and checks them; runs nothing.

- `active_guards`: Chooses the guards of a study that apply to a base and its data.
- `base_checks`: Checks that a base can be loaded in the quantization of every trial.
- `data_checks`: Preflight checks of the rows: encoding, labels, repetition and leakage.
- `data_quality`: Statistics of the scanned data, per file: lengths, repetitions, leaks.
- `device_memory`: The memory of the devices that a launch trains on: as told by `--memory`, or as found on this
  machine.
- `eval_cost`: Forecasts what an eval costs, in steps of its trial: a function of rows and tokens alone.
- `eval_spacing`: Spaces the evals of a trial: as its study says, or closer together where that leaves too few to
  decide anything.
- `finding`: The result type of the preflight checks.
- `forecast`: Forecasts of each trial: trained parameters, adapter size, coverage of the data, number of evals.
- `guard_errors`: The errors of guards, by simulation: how often they stop a healthy arm, and how often they miss a
  broken one.
- `hashing`: Hashes the base, and shows progress when that takes seconds.
- `holdout`: Finds and checks the holdout: test rows and out-of-distribution rows that no eval of a trial asks.
- `hub_download`: Downloads a base from the model hub, and shows how much of it is there.
- `kept_forecast`: What keeping the activations of frozen layers takes and saves, arm by arm; a pure function of shapes.
- `kept_scans`: Keeps the scans of data in the user's cache directory, so that a launch does not repeat the scan of its
  plan.
- `layers`: Reads `--layers last,first-2,every-3,all,gradient` and `--modules mlp`, and chooses layers by such a rule.
- `memory_findings`: What to say of trials that no single device holds.
- `mixes`: Mixes: general rows that are replayed among the task rows, and the trials with each of them.
- `overrides`: Reads `--set schedule=stable,batch_warmup_ratio=0.2`: settings of a trial that have no option of their
  own.
- `parents`: Makes arms start from a saved adapter: they continue it, or add modules to it.
- `pick_rows`: On how many rows the constraint is judged, and whether an arm can be called admissible on them at all.
- `pilots`: Pilots: short trials at three rates, from which each arm gets its own (`--lr auto`).
- `plan`: Plans a launch: its trials, their forecasts, and the findings of preflight.
- `preflight`: Preflight: the checks before a launch.
- `probe_requests`: Reads `--probes`: the shift, and tasks of suites; checks them before anything is spent.
- `resources`: Forecasts what each trial takes: memory by part, FLOPs, seconds and money; and what its device should
  hold at once.
- `silent_guards`: Guards that can never stop an arm on the rows that they have, said in the plan.
- `sources`: Finds and checks the base and the data of a study: the embedded miniature or the user's own.
- `space`: Expands a study into trial specs: the product of arms, ranks, rates, quantizations and seeds.
- `speed`: Remembers how many forecast FLOPs a second the runs on this machine did, from which a plan forecasts
  minutes.
- `split`: Splits a holdout off validation and out-of-distribution rows, by a hash of their content.
- `step_memory`: Forecasts the peak of live tensor bytes in a training pass; pure functions of shapes.
- `trial_checks`: Preflight checks of one trial: coverage, schedule, evals, row lengths and parent adapter.
- `weight_memory`: Forecasts the bytes of a base's weights as an engine holds them, from the headers of its files;
  imports no torch.
- `winners`: Reads the winners of an earlier study as arms, from the `winners.json` of `footprint pareto`.
"""
