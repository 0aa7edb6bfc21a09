"""From a study to checked trial specs; nothing is run."""
