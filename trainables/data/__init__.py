"""From files of rows to tensors."""
