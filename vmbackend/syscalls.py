"""The kernel calls of this package that Python's standard library lacks; its only ctypes."""

import ctypes
import os

_PR_SET_CHILD_SUBREAPER = 36
_PIDFD_GETFD = 438
"""The same on every architecture."""


def set_child_subreaper() -> None:
    """Make this process the parent of its orphaned descendants: PR_SET_CHILD_SUBREAPER(2const).

    Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), "prctl(PR_SET_CHILD_SUBREAPER)")


def pidfd_getfd(process: int, descriptor: int) -> int:
    """A duplicate of *descriptor* of the process that the pidfd *process* is.

    Raises OSError; a process that may not be traced gives none. Source: pidfd_getfd(2).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    taken: int = libc.syscall(_PIDFD_GETFD, process, descriptor, 0)
    if taken < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), "pidfd_getfd")
    return taken
