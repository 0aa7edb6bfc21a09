"""Writes the page of one trial.

results: reads the record. page: the Markdown page. loss_curves: its two PDFs.
"""
