"""One trial alone on an engine."""
