"""Executors of plans: one in C, compiled on first use, one in Python. Both run the same steps."""
