"""Who an image's USER is: docker's ``user[:group]``, by name or number, in the image's files."""

from collections.abc import Iterator
from dataclasses import dataclass

from runtime.errors import ImageError
from runtime.image.inside import read_inside
from runtime.image.stack import Rootfs

MAX_ID = (1 << 31) - 1
MAX_FILE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a process runs as. ``groups`` are its supplementary groups, the primary one first.

    The primary group is among them so that dropping it with setgid(2) does not give access to
    files that exclude the group.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    name: str
    gid: int
    members: frozenset[str]


def identity(rootfs: Rootfs, user: str | None) -> Identity:
    """The Identity of *user* by ``etc/passwd`` and ``etc/group`` of the tree *rootfs*.

    Both are read without leaving the tree; a missing file is an empty one. Raises ImageError.
    """
    passwd, group = (
        (read_inside(rootfs, path, limit_bytes=MAX_FILE_BYTES) or b"").decode("utf-8", "replace")
        for path in ("etc/passwd", "etc/group")
    )
    return lookup(user, passwd=passwd, group=group)


def lookup(user: str | None, *, passwd: str, group: str) -> Identity:
    """The Identity of *user*, given the text of passwd(5) and group(5).

    No user is root. A number need not stand in the files: then the group is 0 and the home ``/``.
    A name must. With a group given there are no supplementary groups beside it; without, the
    user has those that list its name. Lines that make no sense are skipped. Raises ImageError.
    """
    user_part, _, group_part = (user or "").partition(":")
    number = _requested_id(user_part or "0")
    known = _find_user(user_part, number, passwd)
    uid = known.uid if known else number
    if uid is None:
        raise ImageError(
            f"the image has no user {user_part!r}", remedy="give a number, or a name in its passwd"
        )
    home = (known.home if known else "") or "/"
    if group_part:
        gid = _group_id(group_part, group)
        return Identity(uid=uid, gid=gid, groups=(gid,), home=home)
    gid = known.gid if known else 0
    listed = (line.gid for line in _groups(group) if known and known.name in line.members)
    return Identity(uid=uid, gid=gid, groups=tuple(dict.fromkeys((gid, *listed))), home=home)


def _find_user(name: str, uid: int | None, passwd: str) -> _User | None:
    """The first line for *uid*, or for *name* if that is no number."""
    for line in _users(passwd):
        if line.name == name if uid is None else line.uid == uid:
            return line
    return None


def _group_id(text: str, group: str) -> int:
    gid = _requested_id(text)
    if gid is None:
        gid = next((line.gid for line in _groups(group) if line.name == text), None)
    if gid is None:
        raise ImageError(
            f"the image has no group {text!r}", remedy="give a number, or a name in its group file"
        )
    return gid


def _users(passwd: str) -> Iterator[_User]:
    for line in passwd.split("\n"):
        fields = line.split(":")
        if len(fields) < 6 or "\0" in line:
            continue
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is not None and gid is not None:
            yield _User(name=fields[0], uid=uid, gid=gid, home=fields[5])


def _groups(group: str) -> Iterator[_Group]:
    for line in group.split("\n"):
        fields = line.split(":")
        gid = _number(fields[2]) if len(fields) > 3 else None
        if gid is not None:
            yield _Group(name=fields[0], gid=gid, members=frozenset(fields[3].split(",")))


def _requested_id(text: str) -> int | None:
    """*text* as an id, or None if it is a name. Raises ImageError if it is too large."""
    number = _number(text)
    if number is None and text.isascii() and text.isdigit():
        raise ImageError(f"the id {text[:40]} is above {MAX_ID}")
    return number


def _number(text: str) -> int | None:
    """*text* as an id, or None if it is none: docker takes 0 to 2**31-1."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    number = int(text)
    return number if number <= MAX_ID else None
