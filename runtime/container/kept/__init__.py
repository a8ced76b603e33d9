"""Containers that outlive the command that started them: their records, logs, verbs."""
