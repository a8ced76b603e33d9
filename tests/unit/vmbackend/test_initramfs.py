import shutil
import subprocess
from pathlib import Path

import pytest

from vmbackend.initramfs import Entry, cpio, guest_entries


def test_header_fields_stand_where_cpio_5_says() -> None:
    archive = cpio([Entry(name="dev/console", mode=0o020600, device=(5, 1))])
    assert archive[:6] == b"070701"
    field = {name: archive[6 + 8 * i : 14 + 8 * i] for i, name in enumerate(_FIELDS)}
    assert field["mode"] == b"00002180"
    assert (field["rdevmajor"], field["rdevminor"]) == (b"00000005", b"00000001")
    assert field["namesize"] == b"0000000C"
    assert archive[110:122] == b"dev/console\0"


_FIELDS = (
    "ino", "mode", "uid", "gid", "nlink", "mtime", "filesize",
    "devmajor", "devminor", "rdevmajor", "rdevminor", "namesize", "check",
)  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5])
def test_every_part_is_padded_to_four_bytes(size: int) -> None:
    archive = cpio([Entry(name="f" * (size + 1), mode=0o100644, content=b"x" * size)])
    assert len(archive) % 4 == 0
    assert archive.endswith(b"TRAILER!!!\0\0\0\0")


def test_same_entries_give_the_same_bytes() -> None:
    entries = guest_entries(b"agent", [("00-a.ko", b"a"), ("01-b.ko", b"b")])
    assert cpio(entries) == cpio(entries)


def test_cpio_itself_reads_it(tmp_path: Path) -> None:
    unpacker = shutil.which("cpio") or shutil.which("busybox")
    if unpacker is None:
        pytest.skip("neither cpio nor busybox here: apt-get install busybox-static")
    command = [unpacker] if unpacker.endswith("cpio") else [unpacker, "cpio"]
    archive = cpio(
        [
            Entry(name="modules", mode=0o040755),
            Entry(name="init", mode=0o100755, content=b"agent"),
            Entry(name="modules/00-a.ko", mode=0o100644, content=b"module"),
        ]
    )
    subprocess.run([*command, "-i"], input=archive, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "init").read_bytes() == b"agent"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "modules" / "00-a.ko").read_bytes() == b"module"
