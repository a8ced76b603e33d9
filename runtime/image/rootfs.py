"""Where unpacked images are kept: one slot per image and purpose, in the state directory.

A slot is ``rootfs/HEX-PURPOSE/`` with ``tree`` and, beside it, ``meta.json``: what making the
tree cost. That file is written last, so it also says that the tree is complete.
"""

import re
from pathlib import Path

from runtime.errors import ImageError
from runtime.image.document import parse_document
from runtime.image.durable import locked_directory
from runtime.image.home import state_dir
from runtime.image.removal import remove_tree

_PURPOSE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")


def rootfs_slot(digest: str, purpose: str) -> Path:
    """The directory for the tree of the image *digest* made for *purpose*; it may not exist."""
    if not _PURPOSE.fullmatch(purpose):
        raise ImageError(f"{purpose!r} is no purpose: up to 32 of a-z, 0-9, '_', '.' and '-'")
    return state_dir() / "rootfs" / f"{_stem(digest)}-{purpose}"


def remove_rootfs(digest: str) -> None:
    """Delete the trees of the image *digest*, whatever they were made for. Raises ImageError."""
    for slot in (state_dir() / "rootfs").glob(f"{_stem(digest)}-*"):
        try:
            # Whoever is just making it is waited for; whoever waits for us makes a new one.
            with locked_directory(slot):
                (slot / "meta.json").unlink(missing_ok=True)
                remove_tree(slot)
        except OSError as error:
            message = f"cannot delete {error.filename or slot}: {error.strerror}"
            raise ImageError(message, remedy="is an instance still using it?") from error


def rootfs_bytes(digest: str) -> dict[str, int]:
    """What each complete tree of the image *digest* occupies, by the name of its slot."""
    known = {}
    for slot in (state_dir() / "rootfs").glob(f"{_stem(digest)}-*"):
        try:
            meta = parse_document((slot / "meta.json").read_bytes(), str(slot))
            known[slot.name] = meta["disk_bytes"].size()
        except (OSError, ImageError):
            continue  # not complete, or going just now
    return known


def _stem(digest: str) -> str:
    return digest.removeprefix("sha256:")[:32]
