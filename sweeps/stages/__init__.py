"""Trains one adapter in several stages, one after another."""
