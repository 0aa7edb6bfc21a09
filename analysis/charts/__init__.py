"""Draws the frontier.

chart: the drawing as values. labels: places labels. html: the interactive page. png: the picture.
"""
