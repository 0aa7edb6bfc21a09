"""Trains a single trial on an engine."""
