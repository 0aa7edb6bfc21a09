"""Text and tables that a sweep prints in the terminal."""
