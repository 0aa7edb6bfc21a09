"""Draws the frontier."""
