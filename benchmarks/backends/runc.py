"""runc, the reference OCI runtime: https://github.com/opencontainers/runc."""

from contextlib import AbstractContextManager

from benchmarks.peers.oci import OciBackend, Runtime, oci_backend

_RUNC = Runtime(name="runc", package="runc")


def backend(within: str | None = None) -> AbstractContextManager[OciBackend]:
    """The backend; its mounts and groups are private to this process."""
    return oci_backend(_RUNC, within)
