"""Challenges, platforms, ranges, waits, password hashes: the pure parts."""

import base64
import json
import random
import shutil
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ImageError
from runtime.image.registry.authorization import parse_challenges
from runtime.image.registry.choice import choose, parse_entries, parse_platform
from runtime.image.registry.errors import (
    InterruptedTransferError,
    RegistryError,
    TransientError,
)
from runtime.image.registry.passwords import Passwords, sha512_crypt
from runtime.image.registry.patience import Patience, retried
from runtime.image.registry.routes import ProblemError, page, parse_range, parse_target
from runtime.image.served import Served, holds, media_type_of, parse_served, render_served

DIGEST = "sha256:" + "ab" * 32
OCI = "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", []),
        ('Basic realm="x y"', [("basic", {"realm": "x y"})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://a/t", "service": "s",
                         "scope": "repository:a/b:pull,push"})],
        ),
        (
            'Negotiate, Bearer realm=x , service = "a\\"b", Basic realm="c"',
            [("bearer", {"realm": "x", "service": 'a"b'}), ("basic", {"realm": "c"})],
        ),
        ("Bearer", [("bearer", {})]),
    ],
)  # fmt: skip
def test_challenges(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    parsed = [(each.scheme, dict(each.parameters)) for each in parse_challenges(header)]
    assert [each for each in parsed if each[1] or len(parsed) == 1] == found


@given(st.text(max_size=200))
def test_no_challenge_surprises(header: str) -> None:
    for challenge in parse_challenges(header):
        assert challenge.scheme.isascii()


def index(*platforms: dict[str, str] | None) -> Any:
    lines = [
        {"mediaType": OCI, "digest": f"sha256:{number:064x}", "size": number}
        | ({} if platform is None else {"platform": platform})
        for number, platform in enumerate(platforms)
    ]
    return parse_entries(json.dumps({"manifests": lines}).encode(), DIGEST)


def arm(variant: str) -> dict[str, str]:
    return {"os": "linux", "architecture": "arm", "variant": variant}


@pytest.mark.parametrize(
    ("platforms", "wanted", "chosen"),
    [
        ([{"os": "linux", "architecture": "amd64"}] * 2, "linux/amd64", 0),
        ([{"os": "windows", "architecture": "amd64"}, {"os": "linux", "architecture": "amd64"}],
         "linux/amd64", 1),
        ([arm("v5"), arm("v7"), arm("v6")], "linux/arm/v7", 1),
        ([arm("v5"), arm("v7"), arm("v6")], "linux/arm/v6", 2),
        ([arm("v5"), arm("v7"), arm("v6")], "linux/arm", 1),
        ([{"os": "linux", "architecture": "arm64"}], "linux/arm64/v8", 0),
        ([{"os": "linux", "architecture": "arm64", "variant": "v8"}], "linux/aarch64", 0),
        ([None], "linux/amd64", 0),
    ],
)  # fmt: skip
def test_the_choice(platforms: list[Any], wanted: str, chosen: int) -> None:
    found = choose(index(*platforms), parse_platform(wanted), DIGEST)
    assert found.size_bytes == chosen


@pytest.mark.parametrize("platforms", [[], [None, None], [arm("v7")], [{"os": "linux"}]])
def test_no_choice_says_what_there_is(platforms: list[Any]) -> None:
    with pytest.raises(RegistryError, match="has no image for linux/amd64"):
        choose(index(*platforms), parse_platform("linux/amd64"), DIGEST)


@pytest.mark.parametrize("text", ["", "linux", "linux/", "linux/a/b/c", "linux/am d64", "/amd64"])
def test_no_platform(text: str) -> None:
    with pytest.raises(RegistryError, match="is no platform"):
        parse_platform(text)


@pytest.mark.parametrize(
    ("document", "told", "kind"),
    [
        ({"config": {}}, None, OCI),
        ({"config": {}}, f"{OCI}; charset=utf-8", OCI),
        ({"manifests": []}, "text/plain", "application/vnd.oci.image.index.v1+json"),
        ({"config": {}, "mediaType": OCI}, "application/json", OCI),
    ],
)
def test_what_a_manifest_is(document: dict[str, Any], told: str | None, kind: str) -> None:
    raw = json.dumps({"schemaVersion": 2, **document}).encode()
    assert media_type_of(raw, told, DIGEST) == kind


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"schemaVersion": 1}, "schema 1"),
        ({"mediaType": "text/x"}, "not an image or index"),
        ({"manifests": [], "config": {}}, "at once"),
        ({"manifests": [], "mediaType": OCI}, "at once"),
    ],
)
def test_what_is_no_manifest(document: dict[str, Any], why: str) -> None:
    with pytest.raises(ImageError, match=why):
        media_type_of(json.dumps(document).encode(), None, DIGEST)


def test_patience_has_an_end() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise TransientError("no", after_s=0.0)

    patience = Patience(attempts=3, backoff_s=0.0)
    with pytest.raises(TransientError):
        retried(patience, threading.Event(), fail)
    assert len(calls) == 3


def test_nobody_waits_for_ever() -> None:
    def fail() -> None:
        raise TransientError("no", after_s=61.0)

    with pytest.raises(TransientError):
        retried(Patience(), threading.Event(), fail)
    called_off = threading.Event()
    called_off.set()
    with pytest.raises(InterruptedTransferError):
        retried(Patience(backoff_s=60.0), called_off, fail_once)


def fail_once() -> None:
    raise TransientError("no")


def test_waits_grow_are_jittered_and_bounded() -> None:
    random.seed(1)
    patience = Patience(backoff_s=1.0)
    for failures, most_s in [(1, 1.0), (2, 2.0), (4, 8.0), (40, 30.0)]:
        waits = {patience.wait_s(failures, None) for _ in range(20)}
        assert len(waits) > 10
        assert all(most_s / 2 <= wait <= most_s for wait in waits)
    assert patience.wait_s(1, 12.0) == 12.0


@given(st.text(max_size=60), st.integers(1, 10_000))
def test_a_range_is_inside_or_refused(header: str, size: int) -> None:
    with suppress(ProblemError):
        found = parse_range(header, size)
        assert found is None or 0 <= found[0] <= found[1] < size


@given(st.text(alphabet="av2/._-:%?=&manifestsblobsuploadstagslistsha256\0\x1b \n", max_size=80))
def test_no_target_surprises(target: str) -> None:
    for path in (target, f"/v2/{target}", f"/v2/a/{target}"):
        with suppress(ProblemError):
            route = parse_target(path)
            assert ".." not in route.name.split("/")
            assert "/" not in route.item


@given(st.lists(st.text("abc", min_size=1, max_size=3), unique=True), st.integers(1, 5))
def test_pages_come_to_the_whole(items: list[str], size: int) -> None:
    whole = tuple(sorted(items))
    found: list[str] = []
    query = {"n": str(size)}
    while True:
        some, more = page(whole, query)
        found += some
        if not more:
            break
        query = {"n": str(size), "last": some[-1]}
    assert tuple(found) == whole


def test_the_hash_of_its_specification() -> None:
    assert sha512_crypt(b"Hello world!", b"saltstring") == (
        "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
    )


def test_the_hash_is_that_of_htpasswd(tmp_path: Path) -> None:
    if shutil.which("htpasswd") is None:
        pytest.skip("no htpasswd; apt-get install apache2-utils")
    users = tmp_path / "users"
    users.touch()
    for user, password in [("a", "x"), ("b", "é" * 40), ("c", "p" * 64), ("d", "q" * 129)]:
        subprocess.run(
            ["htpasswd", "-5", "-b", str(users), user, password], check=True, capture_output=True
        )
    passwords = Passwords(users)
    for user, password, right in [
        ("a", "x", True), ("b", "é" * 40, True), ("c", "p" * 64, True), ("d", "q" * 129, True),
        ("a", "y", False), ("e", "x", False), ("a", "", False),
    ]:  # fmt: skip
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        assert passwords.admit(f"Basic {encoded}") is right


@pytest.mark.parametrize("line", ["alice:plain", "alice:$2y$05$abc", "", "# nobody"])
def test_files_that_let_nobody_in(line: str, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"{line}\n")
    with pytest.raises(RegistryError, match="htpasswd -5"):
        Passwords(users)


def test_served_entries_come_back_and_lose_their_names() -> None:
    descriptor = parse_entries(
        json.dumps({"manifests": [{"mediaType": OCI, "digest": DIGEST, "size": 5}]}).encode(), "x"
    )[0].descriptor
    entries = (
        Served(descriptor=descriptor),
        Served(descriptor=descriptor, reference="a:1"),
        Served(descriptor=descriptor, reference="a:2", beside="sha256:" + "cd" * 32),
    )
    assert parse_served(render_served(entries)) == entries
    assert [holds(each, {"a:2": "sha256:" + "cd" * 32}) for each in entries] == [False, True, True]
    assert [holds(each, {"a:1": DIGEST}) for each in entries] == [False, False, False]
