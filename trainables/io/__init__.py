"""Files read and written safely: whole or absent after a crash, strict about what they hold."""
