"""Runs trials in Ray: the Tune Trainable, the engine actor, and the values that they exchange.

- protocol: the request and the report that cross Ray
- trainable: the Tune Trainable, which passes requests to a backend
- backend: where trials train, in the worker's process or in an engine actor
- engine_actor: one device with one base, on which the trials of many workers train together
- admission: decides which trials train together and when, as a pure function of events
- cohort_runner: opens and trains the cohort of an engine
- engine_cache: the engine that a process keeps between trials
"""
