"""Where unpacked layers are kept: one slot for each layer on the layers below it.

A slot is ``layers/HEX/`` with ``tree`` and, beside it, ``meta.json``, which is written last and
so says that the tree is complete. It is named by the layer's chain id, because parents that a
layer does not name look as they do below; the name is short, as mount(2) has little room, and
the whole id is in the file. Who uses a slot holds a shared lock on it, who makes or removes it an
exclusive one. Source of the chain id: image-spec ``config.md``.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.errors import ImageError
from runtime.image.document import parse_document, render_document
from runtime.image.durable import locked_directory_if_free, write_whole
from runtime.image.home import state_dir
from runtime.image.manifest import Descriptor
from runtime.image.removal import remove_tree
from runtime.image.stack import is_opaque

_NAME_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The place of one layer of an image; ``blob`` is None where there is nothing to unpack."""

    path: Path
    chain_id: str
    blob: Descriptor | None
    diff_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotMeta:
    """What is known of a complete slot: what unpacking took, and what came of how much."""

    duration_ns: int
    disk_bytes: int
    tar_bytes: int
    entries: int


def layers_dir() -> Path:
    """The directory of all slots; it need not exist yet."""
    return state_dir() / "layers"


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The chain id of each layer, lowest first."""
    chain: list[str] = []
    for diff_id in diff_ids:
        text = f"{chain[-1]} {diff_id}" if chain else diff_id
        chain.append(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if chain else diff_id)
    return tuple(chain)


def slot_of(chain_id: str) -> Path:
    """The directory for the layer *chain_id*; it may not exist."""
    return layers_dir() / chain_id.removeprefix("sha256:")[:_NAME_DIGITS]


def read_slot(slot: Path, chain_id: str) -> SlotMeta | None:
    """What is in *slot*, or None if nothing there is known to be complete.

    Raises ImageError if another layer's tree has the same name, which nothing but malice brings
    about.
    """
    try:
        meta = parse_document((slot / "meta.json").read_bytes(), str(slot / "meta.json"))
        found = meta["chain_id"].text()
        known = SlotMeta(
            duration_ns=meta["duration_ns"].size(),
            disk_bytes=meta["disk_bytes"].size(),
            tar_bytes=meta["tar_bytes"].size(),
            entries=meta["entries"].size(),
        )
    except (FileNotFoundError, ImageError):
        return None
    if not (slot / "tree").is_dir():
        return None
    if found != chain_id:
        raise ImageError(
            f"the layers {found} and {chain_id} want the same place",
            remedy=f"remove the images that hold the first, or {slot}",
        )
    return known


def complete_slot(slot: Path, chain_id: str, meta: SlotMeta) -> None:
    """Say that the tree in *slot* is complete; the caller has made it durable."""
    write_whole(slot / "meta.json", render_document({"chain_id": chain_id, **asdict(meta)}))


def clear_slot(slot: Path) -> None:
    """Delete what is in *slot*, which the caller has locked."""
    (slot / "meta.json").unlink(missing_ok=True)
    remove_tree(slot / "tree")


def uncovered(slots: Sequence[Slot]) -> tuple[Path, ...]:
    """The trees of *slots*, which come lowest first; topmost first, down to one that hides all.

    To overlayfs the roots always merge, so it would not see that by itself.
    """
    trees = []
    for slot in reversed(slots):
        trees.append(slot.path / "tree")
        if is_opaque(trees[-1]):
            break
    return tuple(trees)


def slot_bytes(diff_ids: Sequence[str]) -> dict[str, int]:
    """What each layer that is unpacked of an image occupies, by the name of its slot."""
    known = {}
    for chain_id in chain_ids(diff_ids):
        slot = slot_of(chain_id)
        if meta := read_slot(slot, chain_id):
            known[slot.name] = meta.disk_bytes
    return known


def remove_slots(chain: Collection[str]) -> None:
    """Delete the unpacked layers with these chain ids, but those in use. Raises OSError."""
    for chain_id in chain:
        _remove_if_free(slot_of(chain_id))


def sweep_slots(needed: Collection[str]) -> tuple[str, ...]:
    """Delete every unpacked layer that is not in *needed* or not complete, but those in use.

    The names of what was deleted. Raises OSError.
    """
    kept = {slot_of(chain_id).name for chain_id in needed}
    try:
        slots = sorted(layers_dir().iterdir())
    except FileNotFoundError:
        return ()
    doomed = (s for s in slots if s.name not in kept or not (s / "meta.json").exists())
    return tuple(slot.name for slot in doomed if _remove_if_free(slot))


def _remove_if_free(slot: Path) -> bool:
    with locked_directory_if_free(slot) as alone:
        if alone:
            (slot / "meta.json").unlink(missing_ok=True)
            remove_tree(slot)
    return alone
