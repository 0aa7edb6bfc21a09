"""Writes the report of a study: one page that opens without a network, or Markdown.

- `answer`: The first lines of the report: what to ship, and how sure that is.
- `content`: What the report says, as plain values.
- `curves`: The curves of the arms over their steps: guards, losses and adapter norms.
- `evidence`: Reads what the report shows beside the frontier: measurements, records, samples, cost and provenance.
- `findings`: What the report says of the pick: probes that fell, and answers beside the baseline's.
- `page`: Writes the report as HTML and as Markdown.
- `plots`: Draws the curves as SVG.
"""
