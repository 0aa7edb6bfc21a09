"""Trains several trials together on one base."""
