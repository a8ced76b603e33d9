import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runtime.image import Image, ImageError, Store, unpack
from runtime.image.archive import Kind
from runtime.image.contents import contents
from runtime.image.difference import difference

Pack = Callable[..., bytes]
MakeImage = Callable[..., Image]
Member = Callable[..., Any]

_KINDS = {
    "directory": tarfile.DIRTYPE,
    "file": tarfile.REGTYPE,
    "symlink": tarfile.SYMTYPE,
    "fifo": tarfile.FIFOTYPE,
}


def tree_of(root: Path) -> dict[bytes, tuple[str, int, bytes]]:
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        if path.is_symlink():
            fact = ("symlink", 0, str(path.readlink()).encode())
        elif path.is_dir():
            fact = ("directory", status.st_mode & 0o7777, b"")
        elif path.is_fifo():
            fact = ("fifo", status.st_mode & 0o7777, b"")
        else:
            fact = ("file", status.st_mode & 0o7777, path.read_bytes())
        found[str(path.relative_to(root)).encode()] = fact
    return found


@st.composite
def layers(draw: st.DrawFn) -> list[list[tuple[str, str]]]:
    """Some layers, each of a few names out of few, so that they meet."""
    name = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)
    white = st.tuples(
        st.one_of(
            name.map(lambda n: "/".join([*n.split("/")[:-1], f".wh.{n.split('/')[-1]}"])),
            name.map(lambda n: f"{n}/.wh..wh..opq"),
        ),
        st.just("file"),
    )
    entry = st.one_of(st.tuples(name, st.sampled_from(sorted(_KINDS))), white)
    return draw(st.lists(st.lists(entry, max_size=8), min_size=1, max_size=3))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(layers())
@example([[("a", "fifo")], [("a", "directory"), ("a/.wh..wh..opq", "file")]])
def test_it_is_what_unpacking_gives(
    store: Store,
    make_image: MakeImage,
    pack: Pack,
    member: Member,
    tmp_path_factory: pytest.TempPathFactory,
    found: list[list[tuple[str, str]]],
) -> None:
    tars = [
        pack(
            *(
                member(
                    name,
                    f"{number}{name}".encode() if kind == "file" and ".wh." not in name else b"",
                    _KINDS[kind],
                    link=f"to-{name}" if kind == "symlink" else "",
                    mode=0o640 + number,
                )
                for name, kind in layer
            )
        )
        for number, layer in enumerate(found)
    ]
    image = make_image(*tars)
    target = tmp_path_factory.mktemp("unpacked") / "tree"
    try:
        unpack(store, image, target)
    except ImageError:  # a name leads through what is no directory: here it is no other
        with pytest.raises(ImageError):
            contents(store, image)
        return
    words = {Kind.FILE: "file", Kind.DIRECTORY: "directory", Kind.FIFO: "fifo"}
    told = contents(store, image)
    there = tree_of(target)
    assert set(told) == set(there)
    for path, fact in told.items():
        kind, mode, content = there[path]
        assert kind == words.get(fact.kind, "symlink")
        if kind == "symlink":
            assert fact.link == content
        else:
            assert fact.mode == mode
        if kind == "file":
            assert fact.size_bytes == len(content)


def test_difference_of_layers_and_files(
    store: Store, make_image: MakeImage, pack: Pack, member: Member
) -> None:
    base = pack(
        member("same", b"1", mtime=1), member("mode", b"m"), member("text", b"before"),
        member("dir", kind=tarfile.DIRTYPE), member("dir/gone", b"x"), member("odd\udcff", b""),
    )  # fmt: skip
    top = pack(
        member("same", b"1", mtime=2), member("mode", b"m", mode=0o4755),
        member("text", b"after!"), member("dir/.wh.gone"),
        member("new", kind=tarfile.SYMTYPE, link="same"),
        member("again", kind=tarfile.LNKTYPE, link="same"),
    )  # fmt: skip
    before, after = make_image(base, name="before"), make_image(base, top, name="after")
    found = difference(store, before, after)
    assert found.shared == before.config.diff_ids
    assert (found.only_before, found.only_after) == ((), after.config.diff_ids[1:])
    assert [(change.path, change.verb, change.what) for change in found.changes] == [
        (b"again", "added", ()),
        (b"dir/gone", "removed", ()),
        (b"mode", "changed", ("mode",)),
        (b"new", "added", ()),
        (b"text", "changed", ("content",)),
    ]
    back = difference(store, after, before)
    assert back.only_before == found.only_after
    assert [change.verb for change in back.changes] == [
        {"added": "removed", "removed": "added"}.get(change.verb, change.verb)
        for change in found.changes
    ]
    assert difference(store, before, before).changes == ()


@pytest.mark.parametrize(
    ("name", "kind", "link", "why"),
    [
        ("../x", tarfile.REGTYPE, "", "leads out of the image"),
        ("/x", tarfile.REGTYPE, "", "leads out of the image"),
        ("file/x", tarfile.REGTYPE, "", "what is no directory"),
        ("x", tarfile.LNKTYPE, "none", "which is no file"),
        ("x", tarfile.LNKTYPE, "../../etc/passwd", "leads out of the image"),
        ("x" * 4097, tarfile.REGTYPE, "", "longer than 4096"),
    ],
)
def test_what_is_hostile_is_named(
    store: Store, make_image: MakeImage, pack: Pack, member: Member,
    name: str, kind: bytes, link: str, why: str,
) -> None:  # fmt: skip
    image = make_image(pack(member("file", b"1"), member(name, kind=kind, link=link)))
    with pytest.raises(ImageError, match=why) as caught:
        contents(store, image)
    assert image.manifest.layers[0].digest in caught.value.message


def test_entries_are_bounded(
    store: Store, make_image: MakeImage, pack: Pack, member: Member, monkeypatch: Any
) -> None:
    monkeypatch.setattr("runtime.image.contents.MAX_ENTRIES", 5)
    four = pack(*(member(str(number)) for number in range(4)))
    contents(store, make_image(four))
    with pytest.raises(ImageError, match="more than 5 entries"):
        contents(store, make_image(four, pack(member("a"), member("b"))))
