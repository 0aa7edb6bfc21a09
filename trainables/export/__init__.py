"""A trial as configuration and rows of other tools."""
