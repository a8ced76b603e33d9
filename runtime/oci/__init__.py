"""A low-level runtime that speaks the OCI runtime specification, command-compatible with runc."""
