"""Writes the frontier as text and files.

- `conclusions`: Sentences about the frontier: which placement to ship, its cost, whether more LoRA was better, and
  the unknowns.
- `exporting`: Writes the winners of a study as configurations of another tool, read from their records.
- `next_commands`: The commands that come after a pick: ask the finalists all rows, measure it on held-out rows, and
  ship it.
- `plain_words`: What a study found, for readers who do not know the field.
- `shipping`: Sentences about what to ship by the results by row: the pick, its seed, how sure it is, and what would
  change it.
- `tables`: Writes the frontier as a table for a terminal, and as Markdown, CSV and JSON.
- `winners_json`: Writes `winners.json`, from which a next study narrows its space.
"""
