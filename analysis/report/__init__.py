"""The frontier as text and files."""
