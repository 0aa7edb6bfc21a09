"""Writes the page of one trial.

- `loss_curves`: Draws the losses of one trial as PDF; the same record always gives the same bytes.
- `page`: Writes the results of one trial as a Markdown page with two PDFs.
- `results`: Reads the results of one trial from its record.
"""
