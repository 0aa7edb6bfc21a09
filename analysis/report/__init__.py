"""Writes the frontier as text and files.

conclusions: sentences. tables: terminal, Markdown, CSV, JSON. winners_json: input of a next study. exporting:
configurations for other tools.
"""
