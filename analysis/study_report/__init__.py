"""Writes the report of a study: one page that opens without a network, or Markdown.

- `after_the_pick`: What the report shows after the pick: the effects of the settings, and the values on held-out rows.
- `answer`: The first lines of the report: what to ship, and how sure that is.
- `command`: The command `analysis report`.
- `content`: What the report says, as plain values.
- `curves`: The curves of the arms over their steps: guards, losses and adapter norms.
- `evidence`: Reads what the report shows beside the frontier: measurements, records, samples, cost and provenance.
- `findings`: What the report says of the pick: probes that fell, and answers beside the baseline's.
- `forecasts`: What each trial was forecast to take beside what it took, from the records on this machine.
- `page`: Writes the report as HTML and as Markdown.
- `plots`: Draws the curves as SVG.
"""
