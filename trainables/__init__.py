"""Runs a trial: takes its specification and writes its record."""
