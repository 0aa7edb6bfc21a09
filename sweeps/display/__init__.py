"""What a sweep shows in the terminal: text and tables."""
