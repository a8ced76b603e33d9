"""Our registry by the specification's endpoints, and against clients that mean no good."""

import hashlib
import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.image import Image, Store, state_dir
from runtime.image.registry.passwords import Passwords, sha512_crypt
from runtime.image.registry.server import Server, serving
from runtime.image.registry.service import Bounds, Service
from runtime.image.registry.trust import server_context

MakeImage = Callable[..., Image]
Reply = tuple[int, dict[str, str], bytes]

ROOT = Path(__file__).parent.parent.parent.parent
OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = b"{}"


def digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


class Client:
    """Requests as a test writes them."""

    def __init__(self, server: Server) -> None:
        self.host, _, port = server.authority.rpartition(":")
        self.port = int(port)

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=fields)
            reply = connection.getresponse()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return reply.status, found, reply.read()
        finally:
            connection.close()

    def raw(self, request: bytes, *, timeout_s: float = 20) -> bytes:
        """What comes back for these bytes until the server ends the connection."""
        with socket.create_connection((self.host, self.port), timeout=timeout_s) as line:
            line.sendall(request)
            parts = []
            while chunk := line.recv(65536):
                parts.append(chunk)
            return b"".join(parts)

    def blob(self, raw: bytes, name: str = "a/b") -> dict[str, Any]:
        _, headers, _ = self("POST", f"/v2/{name}/blobs/uploads/")
        location = headers["location"]
        status, _, _ = self("PUT", f"{location}?digest={digest(raw)}", raw)
        assert status == 201
        kind = "application/octet-stream"
        return {"mediaType": kind, "digest": digest(raw), "size": len(raw)}

    def manifest(self, name: str, tag: str, document: dict[str, Any], kind: str = OCI) -> str:
        raw = json.dumps({"schemaVersion": 2, "mediaType": kind, **document}).encode()
        reference = tag or digest(raw)
        status, headers, said = self(
            "PUT", f"/v2/{name}/manifests/{reference}", raw, Content_Type=kind
        )
        assert status == 201, said
        assert headers["docker-content-digest"] == digest(raw)
        if "subject" in document:
            assert headers["oci-subject"] == document["subject"]["digest"]
        return digest(raw)


def code(reply: Reply) -> str:
    """The specification's word in an error."""
    (error,) = json.loads(reply[2])["errors"]
    assert error["message"]
    return str(error["code"])


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server)


@pytest.fixture
def image(theirs: Store, make: MakeImage) -> Image:
    return make(theirs, "a/b:1")


# Pull


def test_the_base(client: Client) -> None:
    status, headers, body = client("GET", "/v2/")
    assert (status, json.loads(body)) == (200, {})
    assert headers["docker-distribution-api-version"] == "registry/2.0"


def test_a_manifest_by_tag_and_by_digest(client: Client, image: Image, theirs: Store) -> None:
    raw = theirs.read_blob(image.digest)
    for reference in ("1", image.digest):
        status, headers, body = client("GET", f"/v2/a/b/manifests/{reference}")
        assert (status, body) == (200, raw)
        assert headers["content-type"] == OCI
        assert headers["docker-content-digest"] == image.digest
        status, headers, body = client("HEAD", f"/v2/a/b/manifests/{reference}")
        assert (status, body, headers["content-length"]) == (200, b"", str(len(raw)))


@pytest.mark.parametrize("reference", ["2", digest(b"other"), digest(EMPTY)])
def test_an_unknown_manifest(client: Client, reference: str) -> None:
    client.blob(EMPTY)  # a blob that is no manifest is none
    reply = client("GET", f"/v2/a/b/manifests/{reference}")
    assert (reply[0], code(reply)) == (404, "MANIFEST_UNKNOWN")
    assert client("HEAD", f"/v2/a/b/manifests/{reference}")[0] == 404


def test_a_blob_whole_and_in_parts(client: Client, image: Image, theirs: Store) -> None:
    layer = image.manifest.layers[0]
    path, raw = f"/v2/a/b/blobs/{layer.digest}", theirs.read_blob(layer)
    status, headers, body = client("GET", path)
    assert (status, body) == (200, raw)
    assert headers["content-length"] == str(len(raw))
    assert client("HEAD", path)[0] == 200
    for asked, first, last in [
        ("bytes=0-0", 0, 0),
        ("bytes=1000-1999", 1000, 1999),
        ("bytes=299999-", 299_999, 299_999),
        ("bytes=5-9999999", 5, 299_999),
    ]:
        status, headers, body = client("GET", path, Range=asked)
        assert (status, body) == (206, raw[first : last + 1])
        assert headers["content-range"] == f"bytes {first}-{last}/{len(raw)}"
    assert client("GET", path, Range="bytes=300000-")[0] == 416
    for ignored in ("bytes=-5", "lines=1-2", "bytes=1-2,4-5", "bytes=b-c"):
        assert client("GET", path, Range=ignored)[::2] == (200, raw)


def test_a_blob_that_went_bad_is_not_served_whole(
    client: Client, image: Image, theirs: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    layer = image.manifest.layers[0]
    path = theirs.root / "blobs" / layer.digest.replace(":", "/")
    path.write_bytes(b"x" * layer.size_bytes)
    with pytest.raises(http.client.IncompleteRead):
        client("GET", f"/v2/a/b/blobs/{layer.digest}")
    assert "is corrupt" in capfd.readouterr().err


# Push


def test_a_push_in_one_request(client: Client) -> None:
    for raw in (b"some blob", b""):
        reply = client("POST", f"/v2/a/b/blobs/uploads/?digest={digest(raw)}", raw)
        assert reply[0] == 201
        assert client("GET", reply[1]["location"])[2] == raw


def test_a_push_in_chunks(client: Client) -> None:
    status, headers, _ = client("POST", "/v2/a/b/blobs/uploads/")
    location = headers["location"]
    assert status == 202
    chunks = [b"first", b"second!", b"third"]
    sent = 0
    for chunk in chunks[:2]:
        span = f"{sent}-{sent + len(chunk) - 1}"
        status, headers, _ = client("PATCH", location, chunk, Content_Range=span)
        sent += len(chunk)
        assert (status, headers["range"]) == (202, f"0-{sent - 1}")
        location = headers["location"]
    status, headers, _ = client("GET", location)
    assert (status, headers["range"]) == (204, f"0-{sent - 1}")
    reply = client("PATCH", location, b"again", Content_Range="0-4")  # out of order
    assert (reply[0], code(reply)) == (416, "BLOB_UPLOAD_INVALID")
    whole = b"".join(chunks)
    span = f"{sent}-{len(whole) - 1}"
    target = f"{location}?digest={digest(whole)}"
    status, headers, _ = client("PUT", target, chunks[2], Content_Range=span)
    assert status == 201
    assert client("GET", headers["location"])[2] == whole
    assert code(client("GET", location)) == "BLOB_UPLOAD_UNKNOWN"


def test_a_chunked_body(client: Client) -> None:
    _, headers, _ = client("POST", "/v2/a/b/blobs/uploads/")
    head = f"PATCH {headers['location']} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    body = b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: t\r\n\r\n"
    assert b" 202 " in client.raw(head.encode() + body)
    reply = client("PUT", f"{headers['location']}?digest={digest(b'abcde')}")
    assert reply[0] == 201


def test_a_wrong_digest_is_refused_and_forgotten(client: Client, theirs: Store) -> None:
    for wrong in (digest(b"other"), "sha256:ab", "md5:ab", ""):
        _, headers, _ = client("POST", "/v2/a/b/blobs/uploads/")
        reply = client("PUT", f"{headers['location']}?digest={wrong}", b"blob")
        assert (reply[0], code(reply)) == (400, "DIGEST_INVALID")
        assert client("GET", headers["location"])[0] == 404
    assert list((theirs.root / "blobs/sha256").iterdir()) == []
    (folder,) = (theirs.root / "uploads").iterdir()
    assert list(folder.iterdir()) == []


def test_a_cancelled_upload_is_gone(client: Client) -> None:
    _, headers, _ = client("POST", "/v2/a/b/blobs/uploads/")
    assert client("DELETE", headers["location"])[0] == 204
    assert code(client("PATCH", headers["location"], b"x")) == "BLOB_UPLOAD_UNKNOWN"
    elsewhere = headers["location"].replace("a/b", "c/d")
    assert client("GET", elsewhere)[0] == 404


def test_a_mount(client: Client) -> None:
    blob = client.blob(b"content")
    path = f"/v2/c/d/blobs/uploads/?mount={blob['digest']}&from=a/b"
    status, headers, _ = client("POST", path)
    assert (status, headers["location"]) == (201, f"/v2/c/d/blobs/{blob['digest']}")
    unknown = f"/v2/c/d/blobs/uploads/?mount={digest(b'unknown')}&from=a/b"
    status, headers, _ = client("POST", unknown)
    assert status == 202
    assert "/blobs/uploads/" in headers["location"]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "MANIFEST_INVALID"),
        (b"[]", "MANIFEST_INVALID"),
        (b'{"schemaVersion":1}', "MANIFEST_INVALID"),
        (b'{"schemaVersion":2}', "MANIFEST_INVALID"),
        (b'{"schemaVersion":2,"mediaType":"text/x"}', "MANIFEST_INVALID"),
        (b'{"schemaVersion":2,"config":{},"manifests":[]}', "MANIFEST_INVALID"),
        (b"[" * 100_000, "MANIFEST_INVALID"),
        (
            json.dumps({"schemaVersion": 2, "config": {"mediaType": "x", "size": 3,
                        "digest": digest(b"abc")}, "layers": []}).encode(),
            "MANIFEST_BLOB_UNKNOWN",
        ),
    ],
)  # fmt: skip
def test_a_bad_manifest_is_refused(
    client: Client, theirs: Store, document: bytes, why: str
) -> None:
    reply = client("PUT", "/v2/a/b/manifests/1", document, Content_Type=OCI)
    assert (reply[0], code(reply)) == (400, why)
    assert theirs.images() == ()
    assert list((theirs.root / "blobs/sha256").iterdir()) == []


def test_a_manifest_under_another_digest_is_refused(client: Client) -> None:
    reply = client("PUT", f"/v2/a/b/manifests/{digest(b'x')}", b"{}", Content_Type=OCI)
    assert (reply[0], code(reply)) == (400, "DIGEST_INVALID")


def test_a_pushed_image_is_an_image_of_the_store(
    client: Client, theirs: Store, image: Image
) -> None:
    document = json.loads(theirs.read_blob(image.digest))
    found = client.manifest("quay.example/x/y", "2", document)
    assert theirs.resolve("quay.example/x/y:2").digest == found
    assert theirs.resolve("a/b:1").digest == image.digest


def test_a_blob_survives_until_its_manifest_comes(
    client: Client, theirs: Store, image: Image, make: MakeImage
) -> None:
    document = json.loads(theirs.read_blob(image.digest))
    config = json.loads(theirs.read_blob(image.manifest.config))
    changed = json.dumps({**config, "created": "2026-01-01T00:00:00Z"}).encode()
    document["config"] = client.blob(changed)
    make(theirs, "another", 500, seed=7)
    theirs.remove("another")  # sweeps what nothing needs yet
    found = client.manifest("a/b", "2", document)
    assert theirs.resolve("a/b:2").digest == found


# Discovery


def test_tags_in_pages(client: Client, theirs: Store, image: Image) -> None:
    for tag in ("3", "2", "x", "V"):
        theirs.tag(image.digest, f"a/b:{tag}")
    theirs.tag(image.digest, "a/bc:9")
    status, headers, body = client("GET", "/v2/a/b/tags/list")
    assert (status, json.loads(body)) == (200, {"name": "a/b", "tags": ["1", "2", "3", "V", "x"]})
    assert "link" not in headers
    status, headers, body = client("GET", "/v2/a/b/tags/list?n=2&last=1")
    assert json.loads(body)["tags"] == ["2", "3"]
    following = headers["link"].partition(">")[0].removeprefix("<")
    assert json.loads(client("GET", following)[2])["tags"] == ["V", "x"]
    assert json.loads(client("GET", "/v2/a/b/tags/list?n=0")[2])["tags"] == []
    assert client("GET", "/v2/a/b/tags/list?n=x")[0] == 400
    assert code(client("GET", "/v2/nobody/tags/list")) == "NAME_UNKNOWN"
    assert json.loads(client("GET", "/v2/_catalog")[2]) == {"repositories": ["a/b", "a/bc"]}


def test_referrers(client: Client, theirs: Store, image: Image) -> None:
    subject = {"mediaType": OCI, "digest": image.digest, "size": 1}
    empty = {**client.blob(EMPTY), "mediaType": "application/vnd.oci.empty.v1+json"}
    path = f"/v2/a/b/referrers/{image.digest}"
    assert json.loads(client("GET", path)[2])["manifests"] == []
    made = {
        kind: client.manifest("a/b", "", {
            "artifactType": kind, "config": empty, "layers": [empty], "subject": subject,
            "annotations": {"made": kind},
        })
        for kind in ("application/x-signature", "application/x-sbom")
    }  # fmt: skip
    status, headers, body = client("GET", path)
    listed = {line["artifactType"]: line for line in json.loads(body)["manifests"]}
    assert (status, headers["content-type"]) == (200, INDEX)
    assert {kind: line["digest"] for kind, line in listed.items()} == made
    assert listed["application/x-sbom"]["annotations"] == {"made": "application/x-sbom"}
    status, headers, body = client("GET", f"{path}?artifactType=application/x-sbom")
    assert headers["oci-filters-applied"] == "artifactType"
    assert len(json.loads(body)["manifests"]) == 1
    assert client("GET", "/v2/a/b/referrers/sha256:x")[0] == 400
    theirs.sweep()
    assert client("GET", f"/v2/a/b/manifests/{made['application/x-sbom']}")[0] == 200
    assert [each.digest for each in theirs.images()] == [image.digest]


# Indexes


@pytest.fixture
def index(client: Client, theirs: Store, make: MakeImage) -> dict[str, Any]:
    """An index for two platforms, its images pushed by digest, as clients do."""
    lines = []
    for number, architecture in enumerate(("amd64", "arm64")):
        image = make(theirs, "tmp", 400 + number, architecture=architecture, seed=number)
        raw = theirs.read_blob(image.digest)
        assert client("PUT", f"/v2/m/m/manifests/{image.digest}", raw, Content_Type=OCI)[0] == 201
        lines.append({
            "mediaType": OCI, "digest": image.digest, "size": len(raw),
            "platform": {"os": "linux", "architecture": architecture},
        })  # fmt: skip
    for image in theirs.images():
        theirs.remove(image.digest)
    return {"manifests": lines}


def test_an_index_and_the_image_in_it(
    client: Client, theirs: Store, index: dict[str, Any]
) -> None:
    found = client.manifest("m/m", "1", index, INDEX)
    amd64, arm64 = (line["digest"] for line in index["manifests"])
    for reference in ("1", found, amd64, arm64):
        assert client("GET", f"/v2/m/m/manifests/{reference}")[0] == 200
    assert client("HEAD", "/v2/m/m/manifests/1")[1]["content-type"] == INDEX
    assert theirs.resolve("m/m:1").digest == amd64
    assert {entry.descriptor.digest for entry in theirs.served()} == {found}
    theirs.sweep()
    assert client("GET", f"/v2/m/m/manifests/{arm64}")[0] == 200


def test_a_name_given_away_here_is_no_longer_the_index(
    client: Client, theirs: Store, index: dict[str, Any], make: MakeImage
) -> None:
    client.manifest("m/m", "1", index, INDEX)
    other = make(theirs, "m/m:1", 900, seed=9)
    status, headers, _ = client("HEAD", "/v2/m/m/manifests/1")
    assert (status, headers["docker-content-digest"]) == (200, other.digest)
    theirs.remove("m/m:1")
    assert client("HEAD", "/v2/m/m/manifests/1")[0] == 404
    found = client.manifest("m/m", "1", index, INDEX)
    assert client("HEAD", "/v2/m/m/manifests/1")[1]["docker-content-digest"] == found


def test_an_index_for_others_takes_the_name_from_an_image(
    client: Client, theirs: Store, index: dict[str, Any], make: MakeImage
) -> None:
    make(theirs, "m/m:1", 900, seed=9)
    foreign = {"manifests": index["manifests"][1:]}
    found = client.manifest("m/m", "1", foreign, INDEX)
    assert client("HEAD", "/v2/m/m/manifests/1")[1]["docker-content-digest"] == found
    assert theirs.images() == ()
    assert json.loads(client("GET", "/v2/m/m/tags/list")[2])["tags"] == ["1"]


# Deletion


def test_deletion(client: Client, index: dict[str, Any]) -> None:
    found = client.manifest("m/m", "1", index, INDEX)
    assert client("DELETE", "/v2/m/m/manifests/1")[0] == 202
    for reference in ("1", found):
        assert client("GET", f"/v2/m/m/manifests/{reference}")[0] == 404
    assert client("DELETE", "/v2/m/m/manifests/1")[0] == 404
    assert client("DELETE", f"/v2/m/m/manifests/{found}")[0] == 404


def test_deletion_by_digest_is_about_one_repository(
    client: Client, theirs: Store, image: Image
) -> None:
    theirs.tag(image.digest, "a/b:2")
    theirs.tag(image.digest, "other:1")
    layer = image.manifest.layers[0].digest
    reply = client("DELETE", f"/v2/a/b/blobs/{layer}")
    assert (reply[0], code(reply)) == (409, "DENIED")
    assert client("DELETE", f"/v2/a/b/manifests/{image.digest}")[0] == 202
    assert theirs.resolve("other:1").references == ("other:1",)
    assert client("DELETE", f"/v2/other/manifests/{image.digest}")[0] == 202
    assert theirs.images() == ()
    assert client("DELETE", f"/v2/a/b/blobs/{layer}")[0] == 404
    blob = client.blob(b"alone")
    assert client("DELETE", f"/v2/a/b/blobs/{blob['digest']}")[0] == 202


@contextmanager
def offered(store: Store, **options: Any) -> Iterator[Client]:
    with serving(store, Service(port=0, **options)) as server:
        yield Client(server)


def test_what_is_in_use_or_not_allowed_stays(theirs: Store, image: Image) -> None:
    with offered(theirs, deletion=True, in_use=lambda digest: (f"i-{digest[7:9]}",)) as client:
        reply = client("DELETE", "/v2/a/b/manifests/1")
        assert (reply[0], code(reply)) == (409, "DENIED")
    with offered(theirs) as client:
        reply = client("DELETE", "/v2/a/b/manifests/1")
        assert (reply[0], code(reply)) == (405, "UNSUPPORTED")
    with offered(theirs, read_only=True, deletion=True) as client:
        for method, path in [
            ("POST", "/v2/a/b/blobs/uploads/"),
            ("PUT", "/v2/a/b/manifests/1"),
            ("DELETE", "/v2/a/b/manifests/1"),
        ]:
            assert client(method, path)[0] == 405
        assert client("GET", "/v2/a/b/manifests/1")[0] == 200
    assert theirs.resolve("a/b:1").digest == image.digest


# Who may come in


def test_only_who_has_a_password(theirs: Store, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"# people\nalice:$6$salt${sha512_crypt(b's3cret', b'salt')}\n")
    with offered(theirs, passwords=Passwords(users)) as client:
        for header in ("", "Basic eA==", "Basic !", "Bearer x", "Basic YWxpY2U6d3Jvbmc="):
            reply = client("GET", "/v2/", Authorization=header)
            assert (reply[0], code(reply)) == (401, "UNAUTHORIZED")
            assert reply[1]["www-authenticate"].startswith("Basic ")
        for _ in range(2):
            assert client("GET", "/v2/", Authorization="Basic YWxpY2U6czNjcmV0")[0] == 200


def test_tls(theirs: Store, image: Image, certificate: Path) -> None:
    tls = server_context(certificate / "cert.pem", certificate / "key.pem")
    with serving(theirs, Service(port=0, tls=tls)) as server:
        trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        port = int(server.authority.rpartition(":")[2])
        connection = http.client.HTTPSConnection("localhost", port, context=trusting, timeout=20)
        connection.request("GET", f"/v2/a/b/manifests/{image.digest}")
        assert connection.getresponse().status == 200
        connection.close()


# Hostile clients


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/v1/", 404),
        ("/v2/../../etc/passwd", 404),
        ("/v2/../x/manifests/1", 400),
        ("/v2/a/../b/manifests/1", 400),
        ("/v2/a//b/manifests/1", 400),
        ("/v2/A/manifests/1", 400),
        ("/v2/a%2fb/manifests/1", 404),
        ("/v2/a/manifests/..", 404),
        ("/v2/a/manifests/%2e%2e", 404),
        ("/v2/a:5/manifests/1", 400),
        ("/v2/a/blobs/sha256:../../../../index.json", 404),
        ("/v2/a/blobs/sha256:zz", 400),
        ("/v2/a/blobs/uploads/../../x", 404),
        ("/v2/a/blobs/uploads/" + "0" * 32, 404),
        ("/v2/" + "a/" * 200 + "manifests/1", 400),
        ("/v2/a/tags/list?n=1&" + "x=1&" * 20, 400),
        ("/v2/a/tags/list?n=%ff", 400),
    ],
)
def test_tricks_with_paths(client: Client, path: str, status: int) -> None:
    reply = client("GET", path)
    assert reply[0] == status
    assert code(reply)


@pytest.mark.parametrize(
    "head",
    [
        b"PUT %s HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT %s HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"PUT %s HTTP/1.1\r\nContent-Length: -5\r\n\r\nhello",
        b"PUT %s HTTP/1.1\r\nContent-Length: 5x\r\n\r\nhello",
        b"PUT %s HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"PUT %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"PUT %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
        b"PUT %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000 + b"\r\n",
        b"PUT %s HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"PUT %s HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"PUT " + b"/x" * 40_000 + b" HTTP/1.1 %s\r\n\r\n",
        b"NONSENSE %s\r\n\r\n",
        b"PUT %s HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00 %s",
        b"\xff\xfe\r\n%s\r\n\r\n",
    ],
)
def test_tricks_with_requests(client: Client, theirs: Store, head: bytes) -> None:
    location = client("POST", "/v2/a/b/blobs/uploads/")[1]["location"]
    target = f"{location}?digest={digest(b'hello')}".encode()
    answer = client.raw(head % target)
    assert b" 201 " not in answer
    assert not answer or b" 4" in answer[:13] or b" 5" in answer[:13]
    assert list((theirs.root / "blobs/sha256").iterdir()) == []
    assert client("GET", "/v2/")[0] == 200


def test_a_body_that_lies_about_its_length(client: Client, theirs: Store) -> None:
    location = client("POST", "/v2/a/b/blobs/uploads/")[1]["location"]
    with socket.create_connection((client.host, client.port)) as line:
        line.sendall(f"PATCH {location} HTTP/1.1\r\nContent-Length: 9\r\n\r\nhello".encode())
        line.shutdown(socket.SHUT_WR)
        assert b" 400 " in line.recv(65536)
    assert list((theirs.root / "blobs/sha256").iterdir()) == []


def test_endless_and_large_bodies_are_cut(theirs: Store) -> None:
    with offered(theirs, bounds=Bounds(blob_bytes=1000)) as client:
        location = client("POST", "/v2/a/b/blobs/uploads/")[1]["location"]
        reply = client("PATCH", location, b"x" * 1001)
        assert (reply[0], code(reply)) == (413, "SIZE_INVALID")
        assert client("GET", location)[0] == 404
        reply = client("PUT", "/v2/a/b/manifests/1", b" " * (5 << 20), Content_Type=OCI)
        assert reply[0] == 413


def test_who_drips_or_waits_is_cut_and_others_are_served(theirs: Store) -> None:
    bounds = Bounds(connections=4, head_s=0.3, idle_s=0.3, silence_s=0.3)
    with offered(theirs, bounds=bounds) as client:
        location = client("POST", "/v2/a/b/blobs/uploads/")[1]["location"]
        heads = [
            b"",
            b"GET /v2/ HT",
            b"GET /v2/ HTTP/1.1\r\nX: y",
            f"PATCH {location} HTTP/1.1\r\nContent-Length: 100\r\n\r\nx".encode(),
        ]
        threads = [threading.Thread(target=client.raw, args=(head,)) for head in heads * 3]
        for thread in threads:
            thread.start()
        assert client("GET", "/v2/")[0] == 200
        for thread in threads:
            thread.join(timeout=20)
            assert not thread.is_alive()


def test_too_many_uploads(client: Client) -> None:
    statuses = [client("POST", "/v2/a/b/blobs/uploads/")[0] for _ in range(65)]
    assert statuses == [202] * 64 + [429]


# The command


def test_the_command_serves_and_ends_clean() -> None:
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "sys.path.insert(0, sys.argv.pop(1)); import isoscope; sys.exit(isoscope.main())"
    )
    argv = [sys.executable, "-c", code, str(ROOT), "registry", "serve", "--port", "0", "-v"]
    for number, expected in [(signal.SIGINT, 130), (signal.SIGTERM, 143)]:
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline().decode()
            authority = line.rpartition("//")[2].strip().strip("/")
            host, _, port = authority.rpartition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=20)
            connection.request("POST", "/v2/a/blobs/uploads/")  # left open and unfinished
            assert connection.getresponse().status == 202
            process.send_signal(number)
            assert process.wait(timeout=20) == expected
            said = process.stderr.read().decode()
            connection.close()
        assert "Traceback" not in said
        assert "POST /v2/a/blobs/uploads/ 202" in said
        assert "--read-only" in said
        assert list((state_dir() / "images/uploads").iterdir()) == []


def test_a_killed_servers_uploads_are_swept_by_the_next(theirs: Store) -> None:
    dead = theirs.root / "uploads" / "0123456789abcdef"
    with offered(theirs):
        dead.mkdir()
        (dead / "part").write_bytes(b"x" * 100)
    with offered(theirs):
        assert not dead.exists()
        with offered(theirs) as second:  # a living one's are not
            assert len(list((theirs.root / "uploads").iterdir())) == 2
            assert second("GET", "/v2/")[0] == 200
    assert list((theirs.root / "uploads").iterdir()) == []
