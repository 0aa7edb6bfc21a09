"""Declares studies, plans their trials and runs them on Ray."""
