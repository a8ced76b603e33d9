"""crun, the OCI runtime in C: https://github.com/containers/crun.

It refuses machines that mount a v2 hierarchy beside v1 ones; where it runs here there is none.
"""

from contextlib import AbstractContextManager

from benchmarks.peers.oci import OciBackend, Runtime, oci_backend

_CRUN = Runtime(name="crun", package="crun", log_prefix="file:")


def backend(within: str | None = None) -> AbstractContextManager[OciBackend]:
    """The backend; its mounts and groups are private to this process."""
    return oci_backend(_CRUN, within)
