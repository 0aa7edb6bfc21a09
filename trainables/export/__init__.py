"""Writes a trial as configuration and data entries of other tools."""
