"""``isoscope image tag|rm|prune|df|history|diff|save|load``: what is done with images kept here.

What a verb needs is imported when it runs.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from runtime.errors import ImageError
from runtime.fault import printable
from runtime.image.progress import bars
from runtime.image.room import Room
from runtime.image.show import amount, path_text, say, table, tell
from runtime.image.store import Store

if TYPE_CHECKING:
    from runtime.image.difference import Change
    from runtime.image.history import Step
    from runtime.image.load import Loaded
    from runtime.image.save import Chosen, Form
    from runtime.image.usage import ImageUsage, Share

Verbs = Any  # argparse names its type of subparsers with an underscore
InUse = Callable[[str], Sequence[str]]
"""Given the digest of an image, the living instances that stand on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCache:
    """What builds keep beside the images: how much it is and may be, and how it is emptied."""

    size_bytes: Callable[[], int]
    limit_bytes: Callable[[], int]
    empty: Callable[[], int]


_SIGNS = {"added": "A", "changed": "C", "removed": "D"}  # as docker diff
_WORDS = 60


def add_store_verbs(verbs: Verbs) -> None:
    """Add to ``isoscope image`` what it does with the store."""
    tag = verbs.add_parser("tag", help="give an image one more name")
    tag.add_argument("name", metavar="IMAGE")
    tag.add_argument("reference", metavar="NAME")
    tag.set_defaults(verb=_tag)

    remove = verbs.add_parser("rm", help="remove names, and the images that lose their last")
    remove.add_argument("names", metavar="IMAGE", nargs="+")
    remove.add_argument(
        "-f", "--force", action="store_true", help="also images that running instances stand on"
    )
    remove.set_defaults(verb=_remove)

    prune = verbs.add_parser("prune", help="remove images without a name, and what they leave")
    prune.add_argument("-a", "--all", action="store_true", help="all that no instance stands on")
    prune.add_argument("--cache", action="store_true", help="instead, empty the build cache")
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    _add_json(prune)
    prune.set_defaults(verb=_prune)

    usage = verbs.add_parser("df", help="what the images occupy, shared and alone")
    _add_json(usage)
    usage.set_defaults(verb=_usage)

    history = verbs.add_parser("history", help="the steps that made an image, newest first")
    history.add_argument("name", metavar="IMAGE")
    history.add_argument("--no-trunc", action="store_true", help="print whole commands")
    _add_json(history)
    history.set_defaults(verb=_history)

    diff = verbs.add_parser("diff", help="layers and files in which two images differ")
    diff.add_argument("before", metavar="IMAGE")
    diff.add_argument("after", metavar="IMAGE")
    _add_json(diff)
    diff.set_defaults(verb=_diff)

    save = verbs.add_parser("save", help="write images to one file")
    save.add_argument("names", metavar="IMAGE", nargs="+")
    save.add_argument("-o", "--output", metavar="FILE", type=Path, help="not standard output")
    save.add_argument("--format", choices=["oci", "docker"], default="oci", help="oci if not told")
    save.set_defaults(verb=_save)

    load = verbs.add_parser("load", help="read images that save, docker, podman or skopeo wrote")
    load.add_argument("-i", "--input", metavar="FILE", type=Path, help="not standard input")
    _add_json(load)
    load.set_defaults(verb=_load)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _tag(store: Store, arguments: argparse.Namespace) -> int:
    image = store.tag(store.resolve(arguments.name).digest, arguments.reference)
    say(image.digest)
    return 0


def _remove(store: Store, arguments: argparse.Namespace) -> int:
    in_use: InUse = arguments.in_use

    def refuse(digest: str) -> None:
        if running := in_use(digest):
            raise ImageError(
                f"{digest} is in use by {', '.join(running)}",
                remedy="end what runs first, or take its files away with --force",
            )

    deleted = store.remove(*arguments.names, guard=None if arguments.force else refuse)
    for name in arguments.names:
        say(f"removed {printable(name)}")
    for digest in deleted:
        say(f"deleted {digest}")
    return 0


def _prune(store: Store, arguments: argparse.Namespace) -> int:
    if arguments.cache:
        return _prune_cache(arguments)
    in_use: InUse = arguments.in_use

    def keep(digest: str, names: tuple[str, ...]) -> bool:
        return bool(names and not arguments.all) or bool(in_use(digest))

    pruned = store.prune(keep, dry_run=arguments.dry_run)
    if arguments.json:
        document = {
            "dry_run": arguments.dry_run,
            "images": list(pruned.images),
            "blobs": list(pruned.blobs),
            "blob_bytes": pruned.blob_bytes,
        }
        say(json.dumps(document, indent=2))
        return 0
    for digest in pruned.images:
        say(f"{'would delete' if arguments.dry_run else 'deleted'} {digest}")
    count = f"{len(pruned.blobs)} blob{'' if len(pruned.blobs) == 1 else 's'}"
    verb = "would free" if arguments.dry_run else "freed"
    say(f"{verb} {amount(pruned.blob_bytes)} in {count}")
    return 0


def _prune_cache(arguments: argparse.Namespace) -> int:
    cache: BuildCache = arguments.build_cache
    freed_bytes = cache.size_bytes() if arguments.dry_run else cache.empty()
    if arguments.json:
        document = {"dry_run": arguments.dry_run, "build_cache_bytes": freed_bytes}
        say(json.dumps(document, indent=2))
    else:
        verb = "would free" if arguments.dry_run else "freed"
        say(f"{verb} {amount(freed_bytes)} of the build cache")
    return 0


def _usage(store: Store, arguments: argparse.Namespace) -> int:
    from runtime.image.usage import usage  # noqa: PLC0415

    used = usage(store)
    cache: BuildCache = arguments.build_cache
    cache_bytes, cache_limit_bytes = cache.size_bytes(), cache.limit_bytes()
    if arguments.json:
        document = {
            "images": [_usage_json(each) for each in used.images],
            "stored_bytes": used.stored_bytes,
            "unpacked_bytes": used.unpacked_bytes,
            "unneeded_bytes": used.unneeded_bytes,
            "disks_bytes": used.disks_bytes,
            "disks_limit_bytes": used.disks_limit_bytes,
            "build_cache_bytes": cache_bytes,
            "build_cache_limit_bytes": cache_limit_bytes,
        }
        say(json.dumps(document, indent=2))
        return 0
    shares = ("SHARED", "UNIQUE")
    rows: list[tuple[str, ...]] = [
        ("IMAGE", "LAYERS", "STORED", *shares, "UNPACKED", *shares, "VM DISK")
    ]
    rows += [_usage_row(each) for each in used.images]
    say(table(rows))
    say(
        f"together: {amount(used.stored_bytes)} stored,"
        f" {amount(used.unpacked_bytes)} unpacked; 'isoscope image prune' would free"
        f" {amount(used.unneeded_bytes)}"
    )
    say(
        f"disks of machines: {amount(used.disks_bytes)} of {amount(used.disks_limit_bytes)} at"
        f" most; build cache: {amount(cache_bytes)} of {amount(cache_limit_bytes)} at most,"
        " 'isoscope image prune --cache' empties it"
    )
    return 0


def _usage_row(used: "ImageUsage") -> tuple[str, ...]:
    name = printable(", ".join(used.image.references)) or used.image.short_id
    return (
        name,
        str(len(used.image.manifest.layers)),
        *_cells(used.stored),
        *_cells(used.unpacked),
        amount(used.disk_bytes) if used.disk_bytes else "-",
    )


def _cells(share: "Share") -> tuple[str, ...]:
    sizes = (share.total_bytes, share.shared_bytes, share.unique_bytes)
    return tuple(amount(size) if share.total_bytes else "-" for size in sizes)


def _usage_json(used: "ImageUsage") -> dict[str, Any]:
    return {
        "digest": used.image.digest,
        "references": list(used.image.references),
        "layers": len(used.image.manifest.layers),
        "stored": _share_json(used.stored),
        "unpacked": _share_json(used.unpacked),
        "disk_bytes": used.disk_bytes,
    }


def _share_json(share: "Share") -> dict[str, int]:
    return {
        "total_bytes": share.total_bytes,
        "shared_bytes": share.shared_bytes,
        "unique_bytes": share.unique_bytes,
    }


def _history(store: Store, arguments: argparse.Namespace) -> int:
    from runtime.image.history import history  # noqa: PLC0415

    steps = history(store, store.resolve(arguments.name))[::-1]
    if arguments.json:
        say(json.dumps([_step_json(step) for step in steps], indent=2))
        return 0
    rows: list[tuple[str, ...]] = [("LAYER", "CREATED", "SIZE", "CREATED BY")]
    rows += [_step_row(step, whole=arguments.no_trunc) for step in steps]
    say(table(rows))
    return 0


def _step_row(step: "Step", *, whole: bool) -> tuple[str, ...]:
    words = printable(" ".join(filter(None, (step.created_by, step.comment))))
    if not whole and len(words) > _WORDS:
        words = f"{words[: _WORDS - 1]}…"
    layer = step.layer
    identifier = step.diff_id or "-"  # as diff names it, however the layer is compressed
    return (
        identifier if whole else identifier.removeprefix("sha256:")[:12],
        printable((step.created or "-")[:10]),
        "-" if layer is None else amount(layer.size_bytes),
        words,
    )


def _step_json(step: "Step") -> dict[str, Any]:
    return {
        "created": step.created,
        "created_by": step.created_by,
        "comment": step.comment,
        "empty_layer": step.layer is None,
        "layer": step.layer.digest if step.layer else None,
        "diff_id": step.diff_id,
        "size_bytes": step.layer.size_bytes if step.layer else 0,
    }


def _diff(store: Store, arguments: argparse.Namespace) -> int:
    from runtime.image.difference import difference  # noqa: PLC0415

    before, after = store.resolve(arguments.before), store.resolve(arguments.after)
    found = difference(store, before, after)
    if arguments.json:
        layers = {
            "shared": list(found.shared),
            "only_before": list(found.only_before),
            "only_after": list(found.only_after),
        }
        files = [_change_json(change) for change in found.changes]
        document = {"before": before.digest, "after": after.digest, "layers": layers}
        say(json.dumps({**document, "files": files}, indent=2))
        return 0
    for sign, layers_there in (
        ("=", found.shared), ("-", found.only_before), ("+", found.only_after)
    ):  # fmt: skip
        for diff_id in layers_there:
            say(f"{sign} layer {diff_id}")
    for change in found.changes:
        say(_change_line(change))
    return 0


def _change_line(change: "Change") -> str:
    what = f"  ({', '.join(change.what)})" if change.what else ""
    return f"{_SIGNS[change.verb]} /{path_text(change.path)}{what}"


def _change_json(change: "Change") -> dict[str, Any]:
    return {
        "path": "/" + change.path.decode("utf-8", "backslashreplace"),
        "change": change.verb,
        "what": list(change.what),
        "before_bytes": change.before_bytes,
        "after_bytes": change.after_bytes,
    }


def _save(store: Store, arguments: argparse.Namespace) -> int:
    from runtime.image.save import choose  # noqa: PLC0415

    chosen = choose(store, arguments.names)
    if arguments.output is not None:
        _save_to(store, chosen, arguments.output, arguments.format)
        return 0
    if sys.stdout.isatty():
        raise ImageError("an image is not for a terminal to show", remedy="name a file with -o")
    _write(store, chosen, cast("BinaryIO", sys.stdout.buffer), arguments.format)
    return 0


def _save_to(store: Store, chosen: "Sequence[Chosen]", path: Path, form: "Form") -> None:
    from runtime.image.save import new_file  # noqa: PLC0415

    room = Room(
        path=path.absolute().parent,
        what="the archive",
        remedy="free some there, or write it to another disk",
    )
    try:
        if path.exists() and not path.is_file():  # a pipe or a device has no new version
            with path.open("wb") as file:
                _write(store, chosen, file, form)
        else:
            with room.told(), new_file(path) as file:
                _write(store, chosen, file, form, room)
    except OSError as error:
        raise ImageError(f"cannot write {path}: {error.strerror}") from error


def _write(
    store: Store,
    chosen: "Sequence[Chosen]",
    file: BinaryIO,
    form: "Form",
    room: Room | None = None,
) -> None:
    from runtime.image.following import Following  # noqa: PLC0415
    from runtime.image.save import save  # noqa: PLC0415

    with bars() as watcher:
        following = Following(room=room, watcher=watcher)
        save(store, chosen, file, form=form, following=following)
        file.flush()


def _load(store: Store, arguments: argparse.Namespace) -> int:
    from runtime.image.load import load  # noqa: PLC0415

    if arguments.input is None:
        if sys.stdin is None or sys.stdin.isatty():
            raise ImageError("no archive comes in", remedy="name a file with -i")
        loaded = load(store, cast("BinaryIO", sys.stdin.buffer), showing=bars)
    else:
        try:
            with arguments.input.open("rb") as file:
                loaded = load(store, file, showing=bars)
        except OSError as error:
            raise ImageError(
                f"cannot read {arguments.input}: {os.strerror(error.errno or 0)}"
            ) from error
    if arguments.json:
        say(json.dumps([_loaded_json(each) for each in loaded]))
        return 0
    for each in loaded:
        names = [_loaded_name(name, each) for name in each.image.references]
        say(f"loaded {', '.join(names) or each.image.digest}")
    return 0


def _loaded_name(name: str, loaded: "Loaded") -> str:
    before = loaded.replaced.get(name)
    return printable(name) if before is None else f"{printable(name)} (was {before})"


def _loaded_json(loaded: "Loaded") -> dict[str, Any]:
    return {
        "digest": loaded.image.digest,
        "references": list(loaded.image.references),
        "replaced": dict(loaded.replaced),
    }


def bootstrap_debian_verb(store: Store, arguments: argparse.Namespace) -> int:
    """``image bootstrap debian``: what is done is told as it is done; the digest is the result."""
    import time  # noqa: PLC0415

    from runtime.image.debian import DebianRecipe, bootstrap_debian  # noqa: PLC0415
    from runtime.image.reference import parse_reference  # noqa: PLC0415

    include = tuple(name for entry in arguments.include for name in entry.split(",") if name)
    recipe = DebianRecipe(include=include, init=arguments.init)
    if include and arguments.tag is None:
        raise ImageError("an image with more packages needs its own name", remedy="add -t NAME")
    default = f"debian:{arguments.init}" if arguments.init else "debian"
    name = str(parse_reference(arguments.tag or default))
    started_ns = time.monotonic_ns()

    def progress(step: str) -> None:
        tell(f"{(time.monotonic_ns() - started_ns) / 1e9:5.0f} s  {step}")

    made = bootstrap_debian(store, name, recipe, say=progress)
    how = "was here already: the sources have nothing newer" if made.cached else "made"
    tell(f"{name}: {how}; {made.packages} packages, {amount(made.image.size_bytes)} stored")
    say(made.image.digest)
    return 0
