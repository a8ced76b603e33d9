"""Executors of plans. Today one, in Python; every executor runs the same steps."""
