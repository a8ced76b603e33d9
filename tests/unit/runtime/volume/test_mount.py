"""How mounts are written, and which are refused."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import SpecError
from runtime.volume.mount import (
    MountRequest,
    check_targets,
    parse_mount,
    parse_tmpfs,
    parse_volume,
)

CWD = "/home/me"


def bind(source: str, target: str, *, read_only: bool = False) -> MountRequest:
    return MountRequest(kind="bind", source=source, target=target, read_only=read_only)


def volume(source: str, target: str, *, read_only: bool = False) -> MountRequest:
    return MountRequest(kind="volume", source=source, target=target, read_only=read_only)


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("/a:/b", bind("/a", "/b")),
        ("/a:/b:ro", bind("/a", "/b", read_only=True)),
        ("/a:/b:rw", bind("/a", "/b")),
        ("./a:/b/../c/", bind("/home/me/a", "/c")),
        ("..:/b", bind("/home", "/b")),
        ("data:/b", volume("data", "/b")),
        ("/b", volume("", "/b")),
        ("/b:ro", volume("", "/b", read_only=True)),
    ],
)
def test_a_volume_is_read(text: str, request_: MountRequest) -> None:
    assert parse_volume(text, cwd=CWD) == request_


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("type=bind,src=/a,dst=/b,ro", bind("/a", "/b", read_only=True)),
        ("type=bind,source=a,target=/b,readonly=false", bind("/home/me/a", "/b")),
        ('type=bind,"source=/a,b:c",target=/b', bind("/a,b:c", "/b")),
        ("source=data,destination=/b", volume("data", "/b")),
        ("type=volume,target=/b", volume("", "/b")),
        ("type=tmpfs,target=/b,tmpfs-size=1m,tmpfs-mode=1777",
         MountRequest(kind="tmpfs", target="/b", options="size=1m,mode=1777")),
    ],
)  # fmt: skip
def test_a_mount_in_words_is_read(text: str, request_: MountRequest) -> None:
    assert parse_mount(text, cwd=CWD) == request_


def test_memory_is_read() -> None:
    assert parse_tmpfs("/run:size=16m,mode=755,noexec,rw") == MountRequest(
        kind="tmpfs", target="/run", options="size=16m,mode=755"
    )
    assert parse_tmpfs("/run:exec,ro").exec
    assert parse_tmpfs("/run:exec,ro").read_only


@pytest.mark.parametrize(
    "text",
    ["", ":", "a:b", "/a:", ":/b", "/a:/b:zz", "/a:/b:ro:rw", "a/b:/c", "-x:/b", "/a:/",
     "/a:/proc", "/a:/proc/1", "/a:/x/../sys", "/a:/dev", "/a:b", "/a:/b\0", "a\0:/b", "~/a:/b", "/a://"],
)  # fmt: skip
def test_what_is_no_volume_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_volume(text, cwd=CWD)


@pytest.mark.parametrize(
    "text",
    ["", "type=bind", "type=bind,source=/a", "type=bind,target=/b", "type=nfs,target=/b",
     "type=bind,source=/a,target=/b,size=3", "type=tmpfs,target=/b,source=/a",
     "type=tmpfs,target=/b,tmpfs-size=1q", "type=tmpfs,target=/b,tmpfs-mode=9",
     "type=bind,source=/a,target=/b,readonly=maybe", 'type=bind,"source=/a', "target=/proc/x",
     "type=bind,source=/a,target=/b,bind-propagation=shared"],
)  # fmt: skip
def test_what_is_no_mount_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_mount(text, cwd=CWD)


@pytest.mark.parametrize(
    "text",
    ["", "run", "/", "/proc/x", "/run:size", "/run:size=1m:x", "/run:suid", "/r:lowerdir=/"],
)
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_tmpfs(text)


@given(st.text(st.sampled_from(":/.,=abrow\0\n\"'-"), max_size=20))
def test_any_text_is_a_mount_below_the_root_or_refused(text: str) -> None:
    readers: tuple[Callable[[], MountRequest], ...] = (
        lambda: parse_volume(text, cwd=CWD),
        lambda: parse_mount(f"type=bind,{text}", cwd=CWD),
        lambda: parse_tmpfs(text),
    )
    for read in readers:
        try:
            found = read()
        except SpecError:
            continue
        assert found.target.startswith("/")
        assert found.target != "/"
        assert ".." not in found.target.split("/")


def test_one_place_has_one_mount() -> None:
    check_targets((bind("/a", "/x"), bind("/a", "/x/y")))
    with pytest.raises(SpecError, match="two mounts on /x"):
        check_targets((bind("/a", "/x"), volume("v", "/x")))
