"""Measurements that are written down with machine and date, and asserted nowhere."""
