"""Command lines: parses options and calls the launch."""
