"""COPY into a tree: where each chosen thing goes, with which owner and mode, and its bytes.

The rules are those that BuildKit's users know: of a directory its contents are copied; what is
there stays unless something of the same name comes; directories merge, a file never replaces a
directory nor a directory a file. Source: the Dockerfile reference, COPY.
"""

import hashlib
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.build.rootfs import Attributes, Rootfs
from runtime.build.sources import CHUNK_BYTES, Chosen, Item, Node, SourceTree
from runtime.errors import BuildError


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Numbers; the names were looked up in the files of the stage."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How things are put: owner and mode None keep what the source has (root, from a context).

    *epoch_ns* is the time that everything from a context gets, and the latest that anything has.
    """

    owner: Owner | None
    mode: int | None
    epoch_ns: int

    def attributes(self, node: Node, *, owned: bool) -> Attributes:
        """What the copy of *node* gets."""
        owner = self.owner or Owner(uid=node.uid, gid=node.gid)
        return Attributes(
            uid=owner.uid,
            gid=owner.gid,
            mode=node.mode if self.mode is None else self.mode,
            mtime_ns=min(node.mtime_ns, self.epoch_ns) if owned else self.epoch_ns,
            xattrs=node.xattrs,
        )

    def made(self, mode: int = 0o755) -> Attributes:
        """What a directory gets that is made on the way."""
        owner = self.owner or Owner(uid=0, gid=0)
        return Attributes(uid=owner.uid, gid=owner.gid, mode=mode, mtime_ns=self.epoch_ns)


@dataclass(slots=True)
class Copying:
    """Copies out of *tree* into *rootfs*; several names of one file stay names of one file."""

    tree: SourceTree
    rootfs: Rootfs
    manner: Manner
    _linked: dict[tuple[int, int], str] = field(default_factory=dict, init=False)

    def copy(self, chosen: Sequence[Chosen], target: str, *, keep_from: int | None = None) -> None:
        """Copy *chosen* to *target*, a directory if it ends with ``/`` or there are several.

        With *keep_from* (COPY --parents) the path as matched is made below *target*, from that
        part of it on.
        """
        into = target.endswith("/") or len(chosen) > 1
        for each in chosen:
            if keep_from is not None:
                kept = "/".join(each.written.split("/")[keep_from:])
                self._copy_below_parents(each, f"{target.rstrip('/')}/{kept}")
            elif each.top.kind == "directory":
                self._copy_directory(each.items, target)
            else:
                self._copy_single(each, target, into=into)

    def _copy_below_parents(self, each: Chosen, place: str) -> None:
        if each.top.kind == "directory":
            self._copy_directory(each.items, place)
            return
        real = self.rootfs.real(place)
        self.rootfs.make_directories(real.rpartition("/")[0], self.manner.made())
        self._put(real, each.items[0])

    def _copy_single(self, each: Chosen, target: str, *, into: bool) -> None:
        real = self.rootfs.real(target)
        if into or self.rootfs.is_directory(real):
            self.rootfs.make_directories(target, self.manner.made())
            # As written: a link is copied under its own name, with what it leads to.
            name = each.written.rpartition("/")[2]
            real = self.rootfs.real(f"{real}/{name}")
            if self.rootfs.is_directory(real):
                raise BuildError(f"/{real} is a directory and would be replaced by a file")
        # Not the target's directory: a link to nothing is made to lead to something.
        self.rootfs.make_directories(real.rpartition("/")[0], self.manner.made())
        self._put(real, each.items[0])

    def _copy_directory(self, items: Sequence[Item], target: str) -> None:
        """The contents of a directory; itself only where *target* has to be made."""
        top, *inside = items
        real = self.rootfs.real(target)
        if self.rootfs.status(real) is None:
            above = real.rpartition("/")[0]
            self.rootfs.make_directories(above, self.manner.made())
            self.rootfs.new_directory(real, self._attributes(top.node))
        elif not self.rootfs.is_directory(real):
            raise BuildError(f"/{real} is no directory, so no directory can be copied to it")
        for item in inside:
            self._put(f"{real}/{item.relative}" if real else item.relative, item)

    def _put(self, real: str, item: Item) -> None:
        node, attributes = item.node, self._attributes(item.node)
        match node.kind:
            case "directory":
                self._put_directory(real, attributes)
            case "file":
                self._put_file(real, item, attributes)
            case "link":
                self.rootfs.link(real, node.link, attributes)
            case "fifo":
                self.rootfs.special(real, stat.S_IFIFO, 0, attributes)
            case "character":
                self.rootfs.special(real, stat.S_IFCHR, node.device, attributes)
            case "block":
                self.rootfs.special(real, stat.S_IFBLK, node.device, attributes)

    def _put_directory(self, real: str, attributes: Attributes) -> None:
        status = self.rootfs.status(real)
        if status is None:
            self.rootfs.new_directory(real, attributes)
        elif stat.S_ISDIR(status.st_mode):
            self.rootfs.adorn_directory(real, attributes)
        else:
            raise BuildError(
                f"/{real} is no directory and would be replaced by one",
                remedy="copy to where it leads, or remove it in a RUN before",
            )

    def _put_file(self, real: str, item: Item, attributes: Attributes) -> None:
        node = item.node
        if node.inode is not None and (first := self._linked.get(node.inode)) is not None:
            self.rootfs.hard_link(real, first)
            return
        with (
            open(self.tree.open_file(node), "rb", buffering=0) as source,  # noqa: PTH123
            open(self.rootfs.new_file(real), "wb", buffering=0) as copy,  # noqa: PTH123
        ):
            hasher = hashlib.sha256()
            while chunk := source.read(CHUNK_BYTES):
                hasher.update(chunk)
                left = memoryview(chunk)
                while left:
                    left = left[copy.write(left) :]
            if hasher.hexdigest() != item.digest:
                raise self.tree.changed(node)
            self.rootfs.finish_file(copy.fileno(), attributes)
        if node.inode is not None:
            self._linked[node.inode] = real

    def _attributes(self, node: Node) -> Attributes:
        attributes = self.manner.attributes(node, owned=self.tree.owned)
        if node.kind == "link":
            return Attributes(uid=attributes.uid, gid=attributes.gid, mtime_ns=attributes.mtime_ns)
        return attributes


def write_text(rootfs: Rootfs, target: str, data: bytes, manner: Manner) -> None:
    """A file with *data* at *target*, made with what is missing above it."""
    rootfs.make_directories(target.rpartition("/")[0], manner.made())
    made = manner.made(0o644 if manner.mode is None else manner.mode)
    fd = rootfs.new_file(rootfs.real(target))
    with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(data)
        file.flush()
        rootfs.finish_file(fd, made)
