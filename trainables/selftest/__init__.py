"""Checks before training: three optimizer steps that test an arm, and checks of the machine."""
