"""Runs trials on Ray.

- run: runs the records of an experiment in one session
- session: keeps Ray, the engines and the MLflow mirror open while batches of trials run
- tuner: starts Ray and the engines, and runs trials under Tune
- engine_plan: plans which engines to start and which trials each of them trains
- baselines: reads the scores of the base from its record
- experiment: the directory of one experiment
- options: the options of a launch
- schedulers: the Tune schedulers that can end trials early
- cluster: checks every node of a cluster
"""
