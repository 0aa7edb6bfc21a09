"""Expands studies into trial specs and checks them; runs nothing."""
