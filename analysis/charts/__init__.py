"""Draws the frontier.

- `chart`: The chart as plain values, which are drawn by matplotlib (PNG) and plotly (HTML).
- `html`: Writes the chart as one HTML file that needs no network: plotly's script is inlined.
- `labels`: Places labels near their points without overlaps; used for PNG and HTML.
- `png`: Draws the chart as a PNG with matplotlib; no display is needed.
"""
