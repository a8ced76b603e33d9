"""Pulling, pushing, copying, listing: our client with our registry."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faulty
import pytest
from faulty import Proxy

from runtime.image import Image, ImageError, Store, parse_reference
from runtime.image.cli import main
from runtime.image.registry.access import Access, Session
from runtime.image.registry.choice import parse_platform
from runtime.image.registry.copying import copy
from runtime.image.registry.errors import RegistryError
from runtime.image.registry.pull import pull
from runtime.image.registry.server import Server, serving
from runtime.image.registry.service import Service

MakeImage = Callable[..., Image]
Capture = pytest.CaptureFixture[str]
OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def command(ours: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr("runtime.image.cli.Store", lambda: ours)
    return lambda *words: main(words)


def serve_index(store: Store, name: str, lines: list[dict[str, Any]], **more: Any) -> str:
    """Put an index there as a push does; its digest."""
    from runtime.image.registry.catalog import Catalog

    raw = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": lines, **more}).encode()
    repository, _, tag = name.partition(":")
    return Catalog(store).put(repository, tag, raw, INDEX).digest


@pytest.fixture
def platforms(theirs: Store, make: MakeImage) -> dict[str, Image]:
    """The images of the index ``multi:1``."""
    made = {
        name: make(theirs, f"t:{name}", 1000, architecture=name, seed=number)
        for number, name in enumerate(("amd64", "arm64", "riscv64"))
    }
    lines = [
        {"mediaType": OCI, "digest": image.digest,
         "size": len(theirs.read_blob(image.digest)),
         "platform": {"os": "linux", "architecture": name}}
        for name, image in made.items()
    ]  # fmt: skip
    lines.append({**lines[0], "platform": {"os": "unknown", "architecture": "unknown"}})
    serve_index(theirs, "multi:1", lines)
    return made


def test_the_platform_is_chosen(
    platforms: dict[str, Image], server: Server, ours: Store, access: Access
) -> None:
    name = parse_reference(f"{server.authority}/multi:1")
    for wanted in ("linux/arm64", "linux/arm64/v8", "linux/aarch64"):
        done = pull(ours, name, access, platform=parse_platform(wanted))
        assert done.image.digest == platforms["arm64"].digest
        assert str(done.platform) == "linux/arm64"
    with pytest.raises(RegistryError, match="only for: linux/amd64, linux/arm64, linux/riscv64"):
        pull(ours, name, access, platform=parse_platform("linux/s390x"))
    assert ours.resolve(str(name)).digest == platforms["arm64"].digest


def test_one_image_for_another_platform(
    theirs: Store, make: MakeImage, server: Server, command: Callable[..., int], capsys: Capture
) -> None:
    make(theirs, "foreign:1", 1000, architecture="s390x")
    name = f"{server.authority}/foreign:1"
    with pytest.raises(RegistryError, match="for linux/s390x, not for linux/arm64"):
        command("pull", "--platform", "linux/arm64", name)
    assert command("pull", name) == 0
    assert "which this machine cannot run" in capsys.readouterr().err


def test_indexes_in_indexes_have_an_end(
    platforms: dict[str, Image], theirs: Store, server: Server, ours: Store, access: Access
) -> None:
    assert platforms
    name = "multi:1"
    for depth in range(2, 7):
        found = theirs.served()[-1].descriptor
        line = {**found.to_json(), "platform": {"os": "linux", "architecture": "amd64"}}
        name = f"multi:{depth}"
        serve_index(theirs, name, [line])
    for depth, ends in [(2, True), (4, True), (5, False), (6, False)]:
        reference = parse_reference(f"{server.authority}/multi:{depth}")
        if ends:
            assert pull(ours, reference, access).image.digest == platforms["amd64"].digest
        else:
            with pytest.raises(RegistryError, match="without an end"):
                pull(ours, reference, access)


def test_an_index_that_points_at_itself(
    theirs: Store, proxy: Proxy, ours: Store, access: Access
) -> None:
    assert theirs.images() == ()

    def itself(line: Any, asked: faulty.Asked, answer: faulty.Answer) -> None:
        digest = "sha256:" + "ab" * 32
        entry = {"mediaType": INDEX, "digest": digest, "size": 300}
        body = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode().ljust(300)
        faulty.status(200, ("Content-Type", INDEX), body=body)(line, asked, answer)

    proxy.spoil("/manifests/", itself)
    with pytest.raises(RegistryError, match="hashes to"):
        pull(ours, parse_reference(f"{proxy.host}/a:1"), access)


@pytest.mark.parametrize("change", ["two sizes", "no config", "diff_ids", "huge", "large config"])
def test_manifests_that_contradict_themselves(
    change: str, theirs: Store, make: MakeImage, proxy: Proxy, ours: Store, access: Access
) -> None:
    image = make(theirs, "a:1")
    document = json.loads(theirs.read_blob(image.digest))
    if change == "two sizes":
        document["layers"].append({**document["layers"][0], "size": 5})
    elif change == "no config":
        document["config"] = document["layers"][1]
    elif change == "diff_ids":
        document["layers"].pop()
    elif change == "huge":
        document["layers"][0]["size"] = 1 << 62
    else:
        document["config"]["size"] = 5 << 20
    body = json.dumps(document).encode()
    proxy.spoil("/manifests/", faulty.status(200, ("Content-Type", OCI), body=body))
    with pytest.raises(ImageError) as caught:
        pull(ours, parse_reference(f"{proxy.host}/a:1"), access)
    assert str(caught.value).isprintable()
    assert ours.images() == ()
    layers = [layer.digest for layer in image.manifest.layers]
    assert not any(digest in asked.path for asked in proxy.seen for digest in layers[:1])


def test_a_pull_by_digest(
    theirs: Store, make: MakeImage, server: Server, ours: Store, access: Access
) -> None:
    image = make(theirs, "a/b:1")
    name = f"{server.authority}/a/b@{image.digest}"
    assert pull(ours, parse_reference(name), access).name == name
    assert ours.resolve(name).digest == image.digest


def test_a_copy_brings_all_platforms_and_what_refers_to_them(
    platforms: dict[str, Image], server: Server, theirs: Store, tmp_path: Path, access: Access,
    docker_registry: Callable[..., str],
) -> None:  # fmt: skip
    from runtime.image.registry.catalog import Catalog

    subject = theirs.served()[0].descriptor
    empty = theirs.write_blob(b"{}").to_json()
    signature = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI, "artifactType": "x/sig", "config": empty,
         "layers": [], "subject": subject.to_json()}
    ).encode()  # fmt: skip
    signed = Catalog(theirs).put("multi", f"sha256:{_hash(signature)}", signature, OCI).digest
    there = Store(tmp_path / "there")
    with serving(there, Service(port=0)) as other:
        source = parse_reference(f"{server.authority}/multi:1")
        target = parse_reference(f"{other.authority}/x/y:2")
        done = copy(source, target, access, referrers=True)
        assert (done.digest, done.manifests) == (subject.digest, 5)
        assert copy(source, target, access).moved_bytes == 0
        with Session(access) as session:
            repository = session.repository(access.settings.place(target))
            for image in platforms.values():
                assert repository.manifest(image.digest).descriptor.digest == image.digest
            assert [each.digest for each in repository.referrers(subject.digest)] == [signed]
        single = parse_reference(f"{other.authority}/x/y:arm")
        one = copy(source, single, access, platform=parse_platform("linux/arm64"))
        assert one.digest == platforms["arm64"].digest
    assert there.resolve("x/y:2").digest == platforms["amd64"].digest
    older = parse_reference(f"{docker_registry()}/x/y:2")  # it lists no referrers itself
    for _ in range(2):
        copy(source, older, access, referrers=True)
        with Session(access) as session:
            repository = session.repository(access.settings.place(older))
            assert [each.digest for each in repository.referrers(subject.digest)] == [signed]


def _hash(raw: bytes) -> str:
    import hashlib

    return hashlib.sha256(raw).hexdigest()


def test_a_copy_of_a_bad_blob_is_refused(
    theirs: Store, make: MakeImage, proxy: Proxy, tmp_path: Path, access: Access
) -> None:
    make(theirs, "a:1")
    there = Store(tmp_path / "there")
    with serving(there, Service(port=0)) as other:
        proxy.spoil("/blobs/sha256", faulty.flipped)
        source = parse_reference(f"{proxy.host}/a:1")
        with pytest.raises(RegistryError, match="hashes to"):
            copy(source, parse_reference(f"{other.authority}/b:1"), access)
    assert list((there.root / "blobs/sha256").iterdir()) == []


def test_tags_page_by_page_and_never_for_ever(
    theirs: Store, make: MakeImage, server: Server, proxy: Proxy, access: Access
) -> None:
    image = make(theirs, "a:0")
    for number in range(1, 10):
        theirs.tag(image.digest, f"a:{number}")
    with Session(access) as session:
        repository = session.repository(
            access.settings.place(parse_reference(f"{server.authority}/a"))
        )
        assert list(repository.tags(page_size=4)) == [str(number) for number in range(10)]
    again = ("Link", '</v2/a/tags/list>; rel="next"')
    proxy.spoil("/tags/", faulty.status(200, again, body=b'{"tags":["x"]}'))
    with Session(access) as session:
        repository = session.repository(access.settings.place(parse_reference(f"{proxy.host}/a")))
        with pytest.raises(RegistryError, match="without an end"):
            list(repository.tags())


def test_the_commands_speak_json_and_one_line(
    theirs: Store, make: MakeImage, server: Server, command: Callable[..., int], capsys: Capture
) -> None:
    image = make(theirs, "a/b:1")
    name = f"{server.authority}/a/b:1"
    assert command("pull", "--json", name) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["digest"] == image.digest
    assert found["downloaded_bytes"] == sum(each.size_bytes for each in image.manifest.layers)
    for words in (["pull", "-q", name], ["push", "-q", name, f"{server.authority}/c:2"]):
        assert command(*words) == 0
        assert capsys.readouterr().out == f"{image.digest}\n"
    assert command("copy", name, f"{server.authority}/d:2") == 0
    assert "copied" in capsys.readouterr().out
    assert command("tags", "--json", name.removesuffix(":1")) == 0
    assert json.loads(capsys.readouterr().out) == ["1"]
    assert command("tags", "--referrers", f"{server.authority}/a/b@{image.digest}") == 0
    assert capsys.readouterr().out == ""
    with pytest.raises(RegistryError, match="has no digest"):
        command("tags", "--referrers", name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_pull_leaves_nothing(
    number: signal.Signals, theirs: Store, make: MakeImage, proxy: Proxy, tmp_path: Path
) -> None:
    make(theirs, "a:1")
    proxy.spoil("/blobs/sha256", _half)
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "sys.path.insert(0, sys.argv.pop(1)); import isoscope; sys.exit(isoscope.main())"
    )
    home = tmp_path / "home"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT), "image", "pull", f"{proxy.host}/a:1"],
        env={**os.environ, "ISOSCOPE_HOME": str(home)},
        stderr=subprocess.PIPE,
    ) as process:
        while not (proxy.spoiled and list((home / "images/ingest").iterdir())):
            assert process.poll() is None
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    store = Store(home / "images")
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert b"Traceback" not in said
    else:
        store.write_blob(b"the next who writes")
    assert list((home / "images/ingest").iterdir()) == []
    assert store.images() == ()


def _half(line: Any, _: faulty.Asked, answer: faulty.Answer) -> None:
    line.sendall(answer.head() + answer.body[: len(answer.body) // 2])
    line.recv(1)  # and no more, until the client is gone
