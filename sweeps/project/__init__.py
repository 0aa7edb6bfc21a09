"""Writes a project: a directory with a study file and the rows that it reads (`footprint init DIR`)."""
