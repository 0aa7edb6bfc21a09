"""Runs trials on Ray."""
