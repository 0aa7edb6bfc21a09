"""Draws the frontier.

- `candidate_paths`: The paths of arms through the candidates, and the limits of guard and constraint, from measurements
  and records.
- `chart`: The chart as plain values, which matplotlib draws as PNG and as SVG.
- `colours`: The colours of pictures on a page: Okabe and Ito's, darker on light paper and lighter on dark paper.
- `drawing`: Draws the chart with matplotlib, for the PNG and for pages.
- `html`: Writes the chart as one HTML file that needs no network and no script.
- `labels`: Places labels near their points without overlaps.
- `png`: Draws the chart as a PNG; no display is needed.
- `svg`: Draws pictures as SVG inside of a page: they follow its colours, and their marks have texts that show on hover.
"""
