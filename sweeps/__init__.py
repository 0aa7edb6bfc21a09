"""What to run, and running it on Ray."""
