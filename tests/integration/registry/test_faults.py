"""A registry that lies, breaks and stalls: a whole image or a clear error, never a bad blob."""

import dataclasses
import hashlib
import socket
from collections.abc import Callable

import faulty
import pytest
from faulty import Answer, Asked, Proxy

from runtime.image import Image, ImageError, Store, parse_reference
from runtime.image.registry.access import Access
from runtime.image.registry.errors import RegistryError
from runtime.image.registry.places import Settings
from runtime.image.registry.pull import Pulled, pull
from runtime.image.registry.push import push

MakeImage = Callable[..., Image]
LAYER = r"/blobs/sha256"
MANIFEST = r"/manifests/"


def get(store: Store, proxy: Proxy, access: Access, name: str = "a/b:1") -> Pulled:
    return pull(store, parse_reference(f"{proxy.host}/{name}"), access)


def quick(access: Access) -> Access:
    return dataclasses.replace(
        access, patience=dataclasses.replace(access.patience, silence_s=0.3, attempts=2)
    )


def assert_sound(store: Store) -> None:
    """Whatever is in the store is what it is called, and nothing lies around."""
    if store.root.exists():
        for path in (store.root / "blobs/sha256").iterdir():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        assert list((store.root / "ingest").iterdir()) == []


def assert_whole(store: Store, done: Pulled, image: Image) -> None:
    assert done.image.digest == image.digest
    for blob in (image.manifest.config, *image.manifest.layers):
        assert len(store.read_blob(blob)) == blob.size_bytes
    assert_sound(store)


@pytest.fixture
def image(theirs: Store, make: MakeImage) -> Image:
    return make(theirs, "a/b:1")


@pytest.mark.parametrize("hard", ["closed", "reset"])
@pytest.mark.parametrize("tenth", range(10))
def test_a_download_goes_on_where_it_broke(
    tenth: int, hard: str, image: Image, ours: Store, proxy: Proxy, access: Access
) -> None:
    proxy.spoil(LAYER, faulty.cut(tenth / 10, hard=hard == "reset"), times=3)
    assert_whole(ours, get(ours, proxy, access), image)
    assert proxy.spoiled == 3


def test_a_download_that_breaks_at_every_tenth_is_one_download(
    image: Image, ours: Store, proxy: Proxy, access: Access
) -> None:
    def a_tenth(line: socket.socket, _: Asked, answer: Answer) -> None:
        size = image.manifest.layers[0].size_bytes // 10
        length = ("Content-Length", str(len(answer.body)))
        line.sendall(answer.head(length) + answer.body[:size])

    large = image.manifest.layers[0]
    proxy.spoil(large.digest, a_tenth, times=9)
    assert_whole(ours, get(ours, proxy, access), image)
    assert proxy.spoiled == 9
    offsets = [each.headers.get("Range") for each in proxy.seen if large.digest in each.path]
    assert offsets[0] is None
    assert offsets[-1] == f"bytes={large.size_bytes // 10 * 9}-"


def test_a_server_without_ranges_is_read_from_the_start(
    image: Image, ours: Store, proxy: Proxy, access: Access
) -> None:
    def whole(line: socket.socket, asked: Asked, _: Answer) -> None:
        plain = {k: v for k, v in asked.headers.items() if k != "Range"}
        answer = proxy.forward(dataclasses.replace(asked, headers=plain))
        ratio = 0.5 if asked.number == 0 else 1.0
        faulty.cut(ratio)(line, asked, answer)

    proxy.spoil(image.manifest.layers[0].digest, whole)
    assert_whole(ours, get(ours, proxy, access), image)
    assert proxy.spoiled == 2


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("where", [LAYER, MANIFEST], ids=["blobs", "manifest"])
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (faulty.flipped, "hashes to"),
        (faulty.with_length(1), "hashes to|bytes, not|longer than"),
        (faulty.with_length(-1), "hashes to|bytes, not|not JSON"),
        (faulty.cut(0.0), "broke off|cut off"),
        (faulty.endless, "longer than|more than"),
        (faulty.endless_head, "does not speak HTTP|without an answer"),
        (faulty.garbage, "without an answer"),
        (faulty.status(200, body=b""), "cut off|broke off|bytes, not|hashes to|not JSON"),
        (faulty.status(404), "no image|status 404"),
        (faulty.status(418, ("X-Odd", "yes")), "status 418"),
        (faulty.status(500), "fails with status 500"),
        (faulty.status(503, ("Retry-After", "0")), "fails with status 503"),
        (faulty.status(429, ("Retry-After", "0")), "asks us to slow down"),
        (faulty.status(429, ("Retry-After", "3600")), "slow down, for 3600 s"),
        (faulty.status(401), "login of a kind"),
        (faulty.status(401, ("WWW-Authenticate", 'Basic realm="x"')), "does not let us"),
        (faulty.status(401, ("WWW-Authenticate", 'Bearer realm="file:///etc"')), "no address"),
        (faulty.status(403), "forbids it"),
        (faulty.status(302, ("Location", "/v2/loop")), "redirects more than|status 404|no image"),
        (faulty.status(302, ("Location", "ftp://h/x")), "no address"),
        (faulty.status(302), "redirects more than"),
        (faulty.status(206, ("Content-Range", "bytes 7-9/10")), "another part|status 206"),
    ],
)  # fmt: skip
def test_a_lie_is_an_error_and_changes_nothing(
    fault: faulty.Fault,
    why: str,
    where: str,
    ours: Store,
    proxy: Proxy,
    access: Access,
) -> None:
    proxy.spoil(where, fault)
    with pytest.raises(ImageError, match=why):
        get(ours, proxy, access)
    assert proxy.spoiled
    assert ours.images() == ()
    assert_sound(ours)


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("where", [LAYER, MANIFEST], ids=["blobs", "manifest"])
@pytest.mark.parametrize("fault", [faulty.drip, faulty.silent, faulty.endless_continue])
def test_who_stalls_is_left(
    fault: faulty.Fault, where: str, ours: Store, proxy: Proxy, access: Access
) -> None:
    proxy.spoil(where, fault)
    with pytest.raises(RegistryError, match=r"no answer within 0\.3 s"):
        get(ours, proxy, quick(access))
    assert_sound(ours)
    assert ours.images() == ()


@pytest.mark.parametrize(
    "fault",
    [faulty.status(500), faulty.status(429, ("Retry-After", "0")), faulty.garbage, faulty.cut(0)],
)
@pytest.mark.parametrize("where", [LAYER, MANIFEST], ids=["blobs", "manifest"])
def test_what_passes_is_waited_for(
    fault: faulty.Fault, where: str, image: Image, ours: Store, proxy: Proxy, access: Access
) -> None:
    proxy.spoil(where, fault, times=2)
    assert_whole(ours, get(ours, proxy, access), image)
    assert proxy.spoiled == 2


@pytest.mark.usefixtures("image")
def test_retry_after_is_honoured(ours: Store, proxy: Proxy, access: Access) -> None:
    moments: list[float] = []

    def slow_down(line: socket.socket, asked: Asked, answer: Answer) -> None:
        import time

        moments.append(time.monotonic())
        spoil = faulty.status(429, ("Retry-After", "1")) if asked.number == 0 else faulty.cut(1)
        spoil(line, asked, answer)

    patient = dataclasses.replace(
        access, patience=dataclasses.replace(access.patience, longest_wait_s=5)
    )
    proxy.spoil(MANIFEST, slow_down)
    get(ours, proxy, patient)
    assert moments[1] - moments[0] >= 1


def test_a_redirect_to_another_host_does_not_carry_our_login(
    image: Image, ours: Store, proxy: Proxy, access: Access
) -> None:
    elsewhere: list[Asked] = []

    def store_of_blobs(line: socket.socket, stream: socket.SocketIO) -> bool:
        asked = faulty.read_request(stream)
        if asked is None:
            return False
        elsewhere.append(asked)
        answer = proxy.forward(asked)
        line.sendall(answer.head(("Content-Length", str(len(answer.body)))) + answer.body)
        return True

    def gate(line: socket.socket, asked: Asked, answer: Answer) -> None:
        if "Authorization" not in asked.headers:
            faulty.status(401, ("WWW-Authenticate", 'Basic realm="x"'))(line, asked, answer)
        elif "/blobs/" in asked.path:
            location = f"http://127.0.0.1:{port}{asked.path}"
            faulty.status(307, ("Location", location))(line, asked, answer)
        else:
            line.sendall(answer.head() + answer.body)

    from runtime.image.registry.credentials import Credential, Credentials

    Credentials().save(proxy.host, Credential(user="alice", password="s3cret"))  # noqa: S106
    with faulty.listening(store_of_blobs) as port:
        proxy.spoil(r"/v2/.", gate)
        assert_whole(ours, get(ours, proxy, access), image)
    assert elsewhere
    assert all("Authorization" not in asked.headers for asked in elsewhere)
    assert any("Authorization" in asked.headers for asked in proxy.seen)


def test_a_token_is_got_once_and_renewed_when_it_runs_out(
    image: Image, ours: Store, proxy: Proxy, access: Access
) -> None:
    given: list[str] = []

    def tokens(line: socket.socket, asked: Asked, answer: Answer) -> None:
        if asked.path.startswith("/token?"):
            given.append(asked.path)
            body = b'{"access_token": "t%d"}' % len(given)
            faulty.status(200, body=body)(line, asked, answer)
        elif asked.headers.get("Authorization") == f"Bearer t{1 + (asked.number > 3)}":
            line.sendall(answer.head(("Connection", "close")) + answer.body)
        else:
            realm = f'Bearer realm="http://{proxy.host}/token",service="s, t",scope="x"'
            faulty.status(401, ("WWW-Authenticate", realm))(line, asked, answer)

    proxy.spoil(r"/token|/v2/.", tokens)
    assert_whole(ours, get(ours, proxy, access), image)
    assert len(given) == 2
    assert "service=s%2C+t" in given[0]
    assert "scope=repository%3Aa%2Fb%3Apull" in given[0]


def test_a_mirror_is_asked_first_and_the_registry_has_the_last_word(
    image: Image, ours: Store, proxy: Proxy, access: Access
) -> None:
    host, port = proxy.upstream
    settings = Settings(mirrors={f"{host}:{port}": [proxy.host]})
    mirrored = dataclasses.replace(access, settings=settings)
    name = parse_reference(f"{host}:{port}/a/b:1")
    proxy.spoil(LAYER, faulty.flipped)
    done = pull(ours, name, mirrored)
    assert proxy.spoiled
    assert_whole(ours, done, image)
    assert done.source == f"{host}:{port}"
    proxy.times = 0
    for again in (pull(ours, name, mirrored), get(ours, proxy, access)):
        assert again.source == proxy.host
        assert again.downloaded_bytes == 0


def test_a_failed_pull_is_taken_up_by_the_next(
    image: Image, ours: Store, proxy: Proxy, access: Access
) -> None:
    first, second = image.manifest.layers
    proxy.spoil(second.digest, faulty.status(404))
    with pytest.raises(RegistryError):
        get(ours, proxy, access)
    proxy.times = 0
    before = sum(first.digest in asked.path for asked in proxy.seen)
    done = get(ours, proxy, access)
    assert_whole(ours, done, image)
    if before and done.downloaded_bytes == second.size_bytes:  # the first was there already
        assert sum(first.digest in asked.path for asked in proxy.seen) == before


def test_a_damaged_blob_is_healed_by_pulling_again(
    image: Image, ours: Store, proxy: Proxy, access: Access
) -> None:
    get(ours, proxy, access)
    layer = image.manifest.layers[0]
    (ours.root / "blobs" / layer.digest.replace(":", "/")).write_bytes(b"damaged")
    done = get(ours, proxy, access)
    assert done.downloaded_bytes == layer.size_bytes
    assert_whole(ours, done, image)


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    "fault", [faulty.status(500), faulty.status(429), faulty.garbage, faulty.cut(0)]
)
def test_a_push_is_tried_again(
    fault: faulty.Fault, method: str, ours: Store, theirs: Store, proxy: Proxy, access: Access,
    make: MakeImage,
) -> None:  # fmt: skip
    image = make(ours, "mine")
    proxy.spoil("", fault, method=method, times=2)
    push(ours, "mine", parse_reference(f"{proxy.host}/a/b:1"), access)
    assert theirs.resolve("a/b:1").digest == image.digest
    assert_sound(theirs)


@pytest.mark.parametrize(
    ("method", "fault", "why"),
    [
        ("POST", faulty.status(500), "status 500"),
        ("POST", faulty.status(202), "where to upload"),
        ("POST", faulty.status(202, ("Location", "gopher://x")), "no address"),
        (
            "PUT",
            faulty.status(400, body=b'{"errors":[{"code":"X","message":"stop \\u001b[2J"}]}'),
            "stop",
        ),
        ("PUT", faulty.status(413), "status 413"),
        ("HEAD", faulty.status(401), "login of a kind"),
        ("PUT", faulty.silent, "no answer within"),
    ],
)
def test_a_push_that_fails_says_why(
    method: str, fault: faulty.Fault, why: str, ours: Store, theirs: Store, proxy: Proxy,
    access: Access, make: MakeImage,
) -> None:  # fmt: skip
    make(ours, "mine")
    proxy.spoil(r"/v2/.", fault, method=method)
    with pytest.raises(RegistryError, match=why) as caught:
        push(ours, "mine", parse_reference(f"{proxy.host}/a/b:1"), quick(access))
    assert str(caught.value).isprintable()
    assert theirs.images() == ()
    assert_sound(theirs)


def test_a_damaged_blob_is_not_pushed(
    ours: Store, theirs: Store, proxy: Proxy, access: Access, make: MakeImage
) -> None:
    layer = make(ours, "mine").manifest.layers[0]
    path = ours.root / "blobs" / layer.digest.replace(":", "/")
    spoiled = bytearray(path.read_bytes())
    spoiled[100] ^= 1
    path.write_bytes(spoiled)
    with pytest.raises(ImageError, match="is corrupt"):
        push(ours, "mine", parse_reference(f"{proxy.host}/a/b:1"), access)
    assert theirs.images() == ()
    assert_sound(theirs)


def test_nobody_there(ours: Store, access: Access) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RegistryError, match=f"127.0.0.1:{port}: connection refused"):
        pull(ours, parse_reference(f"127.0.0.1:{port}/a"), access)
