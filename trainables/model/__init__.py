"""Loads the base, places LoRA on it, and optimizes the adapter."""
