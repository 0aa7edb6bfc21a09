"""Reads command lines: whether an answer is exactly one command, and whether running it does harm."""
