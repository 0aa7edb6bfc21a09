"""Runs trials on Ray.

- session: what a launch keeps open while it runs batches of trials
- tuner: Ray, the engines, and Tune, which sends every worker its request
- engine_plan: which engines to start, and which trials each of them trains
- baselines: what the base scored
- experiment: the directory of one experiment
- options: how a study is launched
- schedulers: the Tune schedulers that may end trials early
- cluster: whether every node of a cluster can take part
"""
