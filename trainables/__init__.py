"""Runs a trial: takes its specification and writes its record.

- `attempt`: Claims a record for the process that writes it, so that a late writer cannot touch what a later attempt
  writes.
- `checkpoints/`: Adapters on disk: reads, checks and describes them, and finds their base and their parents.
- `cohort/`: Trains several trials together on one base.
- `code_digest`: The digest of this package's code, by which kept results know what made them.
- `command`: Runs a command line: a foreseeable failure ends it with `error:`, `hint:` and a documented exit code.
- `constraint`: The constraint on the best checkpoint: which evals are candidates, and which candidate is the best.
- `data/`: From files to tensors: rows, formats, images, chat templates, packing, filters and checks of data.
- `decision`: The interface of a guard: the evals it reads and the decisions it returns.
- `derived/`: Copies of a trial's adapters that no step of training ended with: scaled and averaged ones, and their
  evals.
- `engine`: The engine: one base on one device, with the data that its trials share.
- `data_files`: The files of rows that a trial reads, by what they are for, and how replay rows lengthen a pass.
- `engine_log`: Where a trial trained: an entry in its record for each time that an engine opened it.
- `errors`: The error that is shown to users, the exit codes of all commands, and values as they are shown in
  messages.
- `evaluation/`: Evaluates models: evals during training, and answers to held-out prompts.
- `export/`: Writes a trial as a configuration of another tool, with entries for its data files.
- `failures`: Says what failed, for every kind of failure that a command can foresee; anything else is a bug.
- `folded`: A table of any width on a narrow terminal: what does not fit goes on below, and nothing is cut.
- `frozen/`: Keeps what the frozen layers below all adapters compute for a row, so that it is computed once.
- `gradient_norms`: The gradient of each linear before training, as a value that crosses between processes and is kept
  in a file.
- `guards`: The guards: rules that stop a trial when it loses generality.
- `health/`: Finds broken training and broken evals.
- `hypothesis_tests`: The tests by which guards decide, with their errors; pure functions of counts and of results by
  row.
- `io/`: Reads and writes files safely: atomic writes, strict JSON, JSONL and YAML readers.
- `known_baselines`: Baselines that were measured before on this storage: what decides their results, where they are,
  and copies of them.
- `lease`: Who may write an experiment or a record: its lease, the process that holds it, and when another may take
  over.
- `limits`: Limits of what a trial may ask for: budgets that a machine can finish, and names that a file system takes.
- `local_paths`: Refuses URLs where a path of a file system is meant.
- `measurement`: A measurement of a trial at one step, as one checksummed line of `metrics.jsonl`.
- `measurement`: One measurement of a trial, and the files of checksummed lines that hold them.
- `memory_file`: The file of a record that says how a trial was fitted into the memory of its device; absent if it
  fitted at once.
- `metrics`: The table of all metrics in a record, with direction and unit; guards, tables and frontiers use it.
- `mini/`: The miniature: a Qwen3-VL of 1.9 M parameters with a generated task, so that sweeps run on two CPU cores.
- `mlflow_files`: Writes and reads the files that MLflow keeps of a run.
- `mlflow_models`: Keeps adapters as logged models of MLflow, each with the run and the step that made it.
- `mlflow_store`: Opens an MLflow store, reads and writes its runs, hides its password.
- `model/`: Loads the base, places LoRA on it, and optimizes the adapter.
- `notebook`: Outputs of a notebook's cell that are replaced in place, where the code runs in a notebook's kernel.
- `pareto`: Objectives, Pareto dominance and hypervolume.
- `phase`: What a running trial does now, in a small file of its record that the launch shows; no result depends on it.
- `progress`: Says what a command does now, so that nothing is silent: a moving line on a terminal, stamped lines in a
  log.
- `placement`: A placement: which layers of each tower carry LoRA, and on which kind of their linears.
- `preloaded/`: Short processes that need torch and transformers, forked from one process that has imported them.
- `probes/`: The probes: pure functions of the live model's answers, one file for each, listed in `PROBES`.
- `rates`: Chooses the rate of an arm from its pilots: short trials at three rates, compared on the same validation
  rows.
- `record`: The record of a trial: one directory that resume, analysis and the MLflow mirror read.
- `record_check`: Finds damage in a record: files that its manifest names, and lines that its steps must have left.
- `record_labels`: The labels of a result besides its verdict: success criteria, degraded health checks, overridden
  preflight checks.
- `recorded_baselines`: The results of baselines, read from their records where they are needed.
- `rows_needed`: How many rows it takes before an arm can be called admissible at all.
- `schedule`: Learning-rate schedules and batch growth per optimizer step; imports no torch, because planning uses it
  too.
- `selftest/`: Checks before training: three optimizer steps that test an arm, and checks of the machine.
- `setting_meanings`: What each setting of a trial means, by its name in `TrialSpec`, for the reference and for editors.
- `sharing_keys`: What trials must have in common to share an engine, or a cohort, and their order within a cohort.
- `shipping/`: Makes a directory to ship of a recorded adapter, and measures it as its users will load it.
- `source`: What a trial reads: files and directories by path and hash, and the probes that it is asked for with their
  files.
- `source_check`: Compares base, data and parent adapter of trials with the digests that they were planned with.
- `spec`: The specification of a trial: one frozen value with every setting that affects its result.
- `suites/`: Evaluation suites of others as probes: lm-eval's tasks at each eval, lmms-eval's on kept adapters.
- `tested_guards`: Guards with an error rate: the same rules, but a test decides at each eval whether a limit is broken.
- `training/`: Trains a single trial on an engine.
- `typed`: A command as it is printed, to be typed: in the form in which the user called the one that prints it.
- `validate`: Generates answers of a checkpoint to held-out prompts and checks them; writes JSONL and a run in MLflow.
- `verdict`: How a trial ended.
- `verify`: Checks that a directory holds one complete, trained adapter that can be trained further; works for any
  PEFT adapter.
- `weak_probes`: Probes that cannot tell whether an arm loses generality: a bad baseline, or too few rows for the
  guard's test.
- `workers/`: Runs trials in Ray: the Tune Trainable, the engine actor, and the values that they exchange.
"""
