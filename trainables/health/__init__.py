"""Finds broken training and broken evals."""
