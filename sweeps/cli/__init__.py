"""Command lines: from options to calls."""
