"""From records to a decision."""
