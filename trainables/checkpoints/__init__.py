"""Adapters on disk: what they must hold, where they come from, what they can continue."""
