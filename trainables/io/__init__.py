"""Reads and writes files safely: atomic writes, strict JSON, JSONL and YAML readers."""
