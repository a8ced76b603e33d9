import hashlib
import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.image import ImageError
from runtime.image.archive import ArchiveReader, Entry
from runtime.image.compression import LayerStream

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
KINDS = [
    tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE,
    tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
]  # fmt: skip

Pack = Callable[..., bytes]
Member = Callable[..., tuple[tarfile.TarInfo, bytes]]


def read(tar: bytes) -> list[tuple[Entry, bytes]]:
    diff_id = f"sha256:{hashlib.sha256(tar).hexdigest()}"
    stream = LayerStream(io.BytesIO(tar), diff_id=diff_id, limit_bytes=1 << 30)
    archive = ArchiveReader(stream)
    found = [(entry, b"".join(archive.chunks())) for entry in archive]
    stream.drain()
    return found


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    words = st.text("ab/é-.", min_size=1, max_size=300).filter(lambda name: name.strip("/"))
    info = tarfile.TarInfo(draw(words).rstrip("/"))
    info.type = draw(st.sampled_from(KINDS))
    data = draw(st.binary(max_size=1500)) if info.isreg() else b""
    info.size = len(data)
    info.mode = draw(st.integers(0, 0o7777))
    info.uid, info.gid = draw(st.integers(0, 1 << 31)), draw(st.integers(0, 1 << 31))
    info.mtime = draw(st.integers(-(1 << 32), 1 << 35))
    info.linkname = draw(words) if info.issym() or info.islnk() else ""
    if info.isdev():
        info.devmajor, info.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, 1 << 18))
    return info, data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(members(), max_size=4), st.sampled_from(FORMATS))
def test_reads_what_tarfile_writes(
    pack: Pack, content: list[tuple[tarfile.TarInfo, bytes]], form: int
) -> None:
    try:
        tar = pack(*content, form=form)
    except ValueError:  # more than the old format can say
        assert form == tarfile.USTAR_FORMAT
        return
    found = read(tar)
    assert len(found) == len(content)
    for (entry, data), (info, wanted) in zip(found, content, strict=True):
        assert data == wanted
        assert entry.name.rstrip(b"/") == info.name.encode()
        assert (entry.mode, entry.uid, entry.gid) == (info.mode, info.uid, info.gid)
        assert entry.mtime_ns == info.mtime * 10**9
        assert entry.link == info.linkname.encode()
        if info.isdev() and not info.isfifo():
            assert entry.device == (info.devmajor, info.devminor)


def test_pax_gives_fractions_large_numbers_and_extended_attributes(
    pack: Pack, member: Member
) -> None:
    info, data = member("a", b"x", uid=1 << 30, pax_headers={
        "mtime": "-1.5", "SCHILY.xattr.user.a": "line\nline", "comment": "no",
    })  # fmt: skip
    ((entry, _),) = read(pack((info, data)))
    assert entry.mtime_ns == -1_500_000_000
    assert entry.uid == 1 << 30
    assert entry.xattrs == {"user.a": b"line\nline"}


def test_global_headers_are_passed_over(member: Member) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", pax_headers={"path": "evil"}) as archive:
        info, data = member("good", b"x")
        archive.addfile(info, io.BytesIO(data))
    assert [entry.name for entry, _ in read(packed.getvalue())] == [b"good"]


@pytest.mark.parametrize("tar", [b"", b"\0" * 512, b"\0" * 10240])
def test_nothing_is_an_empty_archive(tar: bytes) -> None:
    assert read(tar) == []


def test_a_stream_cut_off_anywhere_is_an_error_or_ends_between_entries(
    pack: Pack, member: Member
) -> None:
    long_name = "n" * 120
    tar = pack(member("a", b"x" * 700), member(long_name, b"y"))
    for length in range(1, len(tar), 61):
        try:
            names = [entry.name for entry, _ in read(tar[:length])]
        except ImageError:
            continue
        assert names in ([], [b"a"], [b"a", long_name.encode()])
        assert tar[length:].strip(b"\0") == b"" or length % 512 == 0


@pytest.mark.parametrize(
    ("offset", "bytes_", "why"),
    [
        (0, b"Z", "checksum"),
        (124, b"99999999999\0", "bad size"),
        (124, b"-1\0", "bad size"),
        (156, b"S", "sparse"),
        (156, b"V", "unknown type"),
        (108, b"\xff" * 8, "bad uid"),
    ],
)
def test_bad_headers_are_named(
    pack: Pack, member: Member, offset: int, bytes_: bytes, why: str
) -> None:
    tar = bytearray(pack(member("a", b"x"), form=tarfile.USTAR_FORMAT))
    tar[offset : offset + len(bytes_)] = bytes_
    if why != "checksum":
        total = sum(tar[:148]) + 8 * 0x20 + sum(tar[156:512])
        tar[148:156] = b"%06o\0 " % total
    with pytest.raises(ImageError, match=why):
        read(bytes(tar))


@pytest.mark.parametrize(
    "records",
    [b"5 a=b", b"99 path=a\n", b"x path=a\n", b"0 \n", b"8 path\n", b"6 =a\n\n", b"9 size=-\n"],
)
def test_bad_extended_records_are_refused(pack: Pack, member: Member, records: bytes) -> None:
    tar = pack(member("pax", records, b"x"), member("a"), form=tarfile.USTAR_FORMAT)
    with pytest.raises(ImageError, match="extended tar header has a bad"):
        read(tar)


def test_a_huge_extended_header_is_refused_unread(member: Member) -> None:
    info, _ = member("pax", b"", b"x")
    info.size = 8 << 30
    with pytest.raises(ImageError, match="larger than"):
        read(info.tobuf(tarfile.GNU_FORMAT))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_damage_never_gives_another_error(pack: Pack, member: Member, data: st.DataObject) -> None:
    info, content = member("n" * 150, b"x" * 600, pax_headers={"mtime": "1.5"})
    tar = bytearray(pack((info, content), member("b", kind=tarfile.SYMTYPE, link="l" * 150)))
    for _ in range(data.draw(st.integers(1, 4))):
        tar[data.draw(st.integers(0, len(tar) - 1))] = data.draw(st.integers(0, 255))
    # Repaired checksums let the damage through to the parser behind them.
    for start in range(0, len(tar), 512):
        block = tar[start : start + 512]
        if block[257:262] == b"ustar":
            total = sum(block[:148]) + 8 * 0x20 + sum(block[156:])
            tar[start + 148 : start + 156] = b"%06o\0 " % total
    try:
        read(bytes(tar))
    except ImageError as error:
        assert error.message  # noqa: PT017 - either outcome is right


@given(st.binary(max_size=2000))
def test_noise_is_no_archive(noise: bytes) -> None:
    if noise.startswith(b"\x1f\x8b") or not noise[:512].strip(b"\0"):
        return
    with pytest.raises(ImageError):
        read(noise)
