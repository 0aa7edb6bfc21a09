"""Compares two candidates on the same rows.

- `answers`: The answers of both sides and of the baseline to the rows on which the sides differ, read from records.
- `command`: The command `analysis compare`.
- `comparison`: Compares two candidates on every metric with results by row, as a whole and by group of row.
- `difference`: The difference of one metric between two candidates on the same rows, over rows and seeds, and what
  it shows.
- `proportions`: Tests and intervals for the difference of two paired proportions, over one seed or several.
- `selection`: Finds the two sides of a comparison by name, and the rows that both of them answered.
- `tables`: Writes a comparison as text for a terminal, as Markdown and as JSON.
"""
