"""Where state lives: one directory, chosen by the environment and the user."""

import os
from pathlib import Path

from runtime.errors import ImageError

TRAVERSABLE = 0o711
"""Others may pass through to what is theirs (a machine's disk), but not list. Directories that
hold unpacked images are 0700: a set-user-ID program in an image must not be reachable."""


def state_dir() -> Path:
    """The directory of all of isoscope's state; it need not exist yet.

    ``$ISOSCOPE_HOME``, else ``/var/lib/isoscope`` for root, else ``isoscope`` in the user's data
    directory (XDG Base Directory specification: a relative ``$XDG_DATA_HOME`` is ignored).
    """
    if home := os.environ.get("ISOSCOPE_HOME"):
        return Path(home).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/isoscope")
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if data.startswith("/") else _user_data()) / "isoscope"


def cache_dir(name: str) -> Path:
    """``state_dir()/name``, made if it is missing. Raises ImageError if it cannot be made."""
    path = state_dir() / name
    try:
        path.parent.mkdir(mode=TRAVERSABLE, parents=True, exist_ok=True)
        path.mkdir(mode=TRAVERSABLE, exist_ok=True)
    except OSError as error:
        message = f"cannot make {path}: {error.strerror}"
        raise ImageError(message, remedy="set ISOSCOPE_HOME to a directory of yours") from error
    return path


def _user_data() -> Path:
    try:
        return Path.home() / ".local" / "share"
    except RuntimeError as error:  # no HOME and no passwd entry
        raise ImageError(
            "this user has no home directory", remedy="set ISOSCOPE_HOME to a directory of yours"
        ) from error
