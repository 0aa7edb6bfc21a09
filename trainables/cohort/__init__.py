"""Many trials trained together on one base."""
