import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from runtime.image import ImageError, Store, bootstrap_busybox, identity, unpacked
from runtime.image.bootstrap import BUSYBOX
from runtime.image.elf import read_elf

needs_busybox = pytest.mark.skipif(
    not BUSYBOX.exists() or not read_elf(BUSYBOX).static,
    reason="needs a static busybox: apt-get install busybox-static",
)


@needs_busybox
def test_two_stores_get_the_same_image(tmp_path: Path) -> None:
    one = bootstrap_busybox(Store(tmp_path / "one"))
    two = bootstrap_busybox(Store(tmp_path / "two"), "other:name")
    assert one.digest == two.digest
    assert (one.references, two.references) == (("busybox:latest",), ("other:name",))


@needs_busybox
def test_the_image_and_its_tree(store: Store) -> None:
    image = bootstrap_busybox(store)
    assert image.config.command() == ("sh",)
    assert dict(image.config.env)["PATH"].endswith(":/sbin:/bin")
    assert image.config.os == "linux"
    assert image.config.architecture == read_elf(BUSYBOX).architecture
    assert image.created == "1970-01-01T00:00:00Z"
    tree = unpacked(store, image, purpose="host").path
    assert sorted(path.name for path in tree.iterdir()) == [
        "bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr", "var",
    ]  # fmt: skip
    assert (tree / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (tree / "bin/busybox").read_bytes() == BUSYBOX.read_bytes()
    assert (tree / "bin/ls").readlink() == Path("busybox")
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, check=True, text=True)
    assert {path.name for path in (tree / "bin").iterdir()} == {"busybox", *listed.stdout.split()}
    assert identity(tree, "nobody").uid == 65534
    ran = subprocess.run([tree / "bin/echo", "works"], capture_output=True, check=True)
    assert ran.stdout == b"works\n"


@needs_busybox
def test_the_layer_has_no_trace_of_when_and_who(store: Store) -> None:
    image = bootstrap_busybox(store)
    raw = store.read_blob(image.manifest.layers[0])
    assert raw[3] == 0  # RFC 1952: no name, no comment
    assert raw[4:8] == bytes(4)  # no time
    with tarfile.open(fileobj=BytesIO(raw)) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 0)}


def test_a_missing_binary_says_what_to_install(store: Store, tmp_path: Path, home: Path) -> None:
    with pytest.raises(ImageError) as caught:
        bootstrap_busybox(store, binary=tmp_path / "busybox")
    assert caught.value.remedy == "apt-get install busybox-static"
    assert not home.exists()


def test_a_dynamic_binary_is_refused(store: Store, home: Path) -> None:
    dynamic = shutil.which("true")
    assert dynamic is not None
    with pytest.raises(ImageError, match="needs a dynamic linker") as caught:
        bootstrap_busybox(store, binary=Path(dynamic))
    assert caught.value.remedy == "apt-get install busybox-static"
    assert not home.exists()


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"#!/bin/sh\n", "not an ELF"),
        (b"\x7fELF", "damaged"),
        (b"\x7fELF\x02\x01" + bytes(10) + b"\x02\0\x3e\0", "damaged"),
        (b"\x7fELF\x02\x01" + bytes(10) + b"\x02\0\xff\xff" + bytes(44), "e_machine 65535"),
        (b"\x7fELF\x02\x01" + bytes(10) + b"\x02\0\x3e\0" + b"\xff" * 44, "damaged"),
    ],
)
def test_what_is_no_program_is_refused(tmp_path: Path, raw: bytes, why: str) -> None:
    (tmp_path / "program").write_bytes(raw)
    with pytest.raises(ImageError, match=why):
        read_elf(tmp_path / "program")


def test_a_bad_name_is_refused_before_anything_is_made(store: Store, home: Path) -> None:
    with pytest.raises(ImageError, match="no image reference"):
        bootstrap_busybox(store, "Bad Name")
    assert not home.exists()
