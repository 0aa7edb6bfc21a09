"""One adapter trained through several stages."""
