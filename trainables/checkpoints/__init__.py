"""Adapters on disk: reads, checks and describes them, and finds their base and their parents."""
