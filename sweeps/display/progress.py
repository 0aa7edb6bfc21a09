"""Lines that say what a launch does now: with the time of day where the output is no terminal, as in a log."""

from trainables.progress import doing, say, stamped, working

__all__ = ["doing", "say", "stamped", "working"]
