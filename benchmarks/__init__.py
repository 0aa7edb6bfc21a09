"""Benchmarks, whose figures are recorded with machine and date; no test asserts them."""
