"""Writes a trial as a configuration of another tool, with entries for its data files."""
