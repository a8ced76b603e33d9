import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.image import Image, ImageError, Store
from runtime.image.contents import contents
from runtime.image.load import load
from runtime.image.save import FULL_NAME, Form, choose, new_file, save

Pack = Callable[..., bytes]
MakeImage = Callable[..., Image]
Member = Callable[..., Any]

needs_skopeo = pytest.mark.skipif(
    shutil.which("skopeo") is None, reason="skopeo is not installed: apt-get install skopeo"
)


def images_in(store: Store, source: BinaryIO) -> tuple[Image, ...]:
    """What is loaded, without what it replaced."""
    return tuple(each.image for each in load(store, source))


@pytest.fixture
def two(make_image: MakeImage, pack: Pack, member: Member) -> tuple[Image, Image]:
    shared = pack(member("shared", os.urandom(3000)))
    return (
        make_image(shared, pack(member("one", b"1")), name="one:1", config={"Cmd": ["a"]}),
        make_image(shared, pack(member("two", b"2" * 100_000)), name="localhost:5000/two:2"),
    )


@pytest.fixture
def other(home: Path) -> Store:
    return Store(home / "other")


def saved(store: Store, names: list[str], form: Form) -> bytes:
    written = io.BytesIO()
    save(store, choose(store, names), written, form=form)
    return written.getvalue()


def archive_of(members: dict[str, Any], links: dict[str, str] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in members.items():
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return packed.getvalue()


def taken_apart(tar: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {m.name: b"".join(archive.extractfile(m) or ()) for m in archive}


@pytest.mark.parametrize("form", ["oci", "docker"])
@pytest.mark.parametrize("how", ["file", "gzip", "pipe"])
def test_what_is_saved_is_loaded(
    store: Store, other: Store, two: tuple[Image, Image], form: Form, how: str
) -> None:
    tar = saved(store, ["one:1", "localhost:5000/two:2", "one:1"], form)
    assert tar == saved(store, ["one:1", "localhost:5000/two:2"], form)
    if how == "pipe":
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            with open(writer, "wb") as file:  # noqa: PTH123
                file.write(tar)
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as source:  # noqa: PTH123
            images = images_in(other, source)
        os.waitpid(pid, 0)
    else:
        images = images_in(other, io.BytesIO(gzip.compress(tar) if how == "gzip" else tar))
    assert [image.references for image in images] == [("one:1",), ("localhost:5000/two:2",)]
    for image, before in zip(images, two, strict=True):
        assert image.config == before.config
        assert contents(other, image) == contents(store, before)
        if form == "oci":
            assert image.digest == before.digest
    assert list((other.root / "ingest").iterdir()) == []
    again = images_in(other, io.BytesIO(tar))
    assert [image.digest for image in again] == [image.digest for image in images]


def test_names_that_an_image_is_saved_under(store: Store, two: tuple[Image, Image]) -> None:
    store.tag(two[0].digest, "more")
    (by_name,) = choose(store, ["more"])
    assert by_name.references == ("more:latest",)
    (by_digest,) = choose(store, [two[0].short_id])
    assert by_digest.references == ("more:latest", "one:1")
    index = json.loads(taken_apart(saved(store, ["more"], "oci"))["index.json"])
    (line,) = index["manifests"]
    assert line["annotations"][FULL_NAME] == "docker.io/library/more:latest"


@needs_skopeo
@pytest.mark.parametrize("form", ["oci", "docker"])
def test_skopeo_reads_ours_and_we_read_its(
    store: Store, other: Store, two: tuple[Image, Image], form: Form, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    ours.write_bytes(saved(store, ["one:1"], form))
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", f"{form}-archive:{ours}",
         f"{form}-archive:{theirs}:one:1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    with theirs.open("rb") as source:
        (image,) = images_in(other, source)
    assert image.references == ("one:1",)
    assert contents(other, image) == contents(store, two[0])
    assert image.config.cmd == ("a",)


def test_an_index_leads_to_the_image_for_this_machine(
    store: Store, other: Store, two: tuple[Image, Image]
) -> None:
    parts = taken_apart(saved(store, ["one:1"], "oci"))
    (line,) = json.loads(parts["index.json"])["manifests"]
    machine = {"os": "linux", "architecture": os.uname().machine.replace("x86_64", "amd64")}
    inner = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                {**line, "digest": "sha256:" + "0" * 64, "platform": {"os": "plan9"}},
                {**line, "platform": machine},
            ],
        }
    ).encode()
    digest = hashlib.sha256(inner).hexdigest()
    top = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": f"sha256:{digest}",
        "size": len(inner),
        "annotations": {"org.opencontainers.image.ref.name": "Not A Name"},
    }
    parts["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    (image,) = images_in(other, io.BytesIO(archive_of({**parts, f"blobs/sha256/{digest}": inner})))
    assert (image.digest, image.references) == (two[0].digest, ())


def test_dockers_own_archives_link_layers_to_each_other(
    store: Store, other: Store, two: tuple[Image, Image]
) -> None:
    parts = taken_apart(saved(store, ["one:1"], "docker"))
    (line,) = json.loads(parts["manifest.json"])
    first, second = line["Layers"]
    parts["manifest.json"] = json.dumps([{**line, "Layers": ["a/layer.tar", second]}]).encode()
    (image,) = images_in(other, io.BytesIO(archive_of(parts, {"a/layer.tar": f"../{first}"})))
    assert contents(other, image) == contents(store, two[0])


def broken(parts: dict[str, bytes], what: str) -> dict[str, Any]:
    """An OCI or docker archive with one thing wrong."""
    layer = max(parts, key=lambda name: len(parts[name]))
    wrong: dict[str, dict[str, Any]] = {
        "no index": {"oci-layout": b"{}"},
        "empty index": {"index.json": {"schemaVersion": 2, "manifests": []}},
        "no list": {"manifest.json": {}},
        "empty list": {"manifest.json": []},
        "line is no object": {"manifest.json": [7]},
        "no config": {"manifest.json": [{"Config": "../../etc/passwd", "Layers": []}]},
        "twice": {"manifest.json": b'[{"Config": "a", "Config": "b"}]'},
        "other layer": {**parts, layer: b"x" * len(parts[layer])},
        "short layer": {**parts, layer: parts[layer][:-1]},
        "missing layer": {name: raw for name, raw in parts.items() if name != layer},
    }
    return wrong[what]


@pytest.mark.parametrize(
    ("form", "what", "why"),
    [
        ("oci", "no index", "neither an OCI nor a docker archive"),
        ("oci", "empty index", "the archive has no image"),
        ("oci", "other layer", r"blob sha256:\w{64} in the archive hashes to"),
        ("oci", "short layer", r"blob sha256:\w{64} has \d+ bytes in the archive, not"),
        ("oci", "missing layer", "the archive has no 'blobs/sha256/"),
        ("docker", "no list", "the document is not a list"),
        ("docker", "empty list", "the archive has no image"),
        ("docker", "line is no object", r"\[0\] is not an object"),
        ("docker", "no config", "the archive has no '../../etc/passwd'"),
        ("docker", "twice", "the field 'Config' is there twice"),
        ("docker", "other layer", r"layer '\w{64}.tar' \(sha256:\w{64}\): its tar hashes to"),
        ("docker", "short layer", r"layer '\w{64}.tar' \(sha256:\w{64}\): its tar hashes to"),
        ("docker", "missing layer", r"layer '\w{64}.tar' .*: the archive has no"),
    ],
)
def test_a_bad_archive_changes_nothing(
    store: Store, other: Store, two: tuple[Image, Image], form: Form, what: str, why: str
) -> None:
    parts = broken(taken_apart(saved(store, [i.digest for i in two], form)), what)
    with pytest.raises(ImageError, match=why):
        load(other, io.BytesIO(archive_of(parts)))
    assert not (other.root / "blobs").exists()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data(), st.sampled_from(["oci", "docker"]))
def test_damage_gives_no_other_error(
    store: Store, other: Store, two: tuple[Image, Image], data: st.DataObject, form: Form
) -> None:
    tar = bytearray(saved(store, ["one:1"], form))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(tar) - 1))
        tar[at] = data.draw(st.integers(0, 255))
    try:
        images = images_in(other, io.BytesIO(bytes(tar[: data.draw(st.integers(0, len(tar)))])))
    except ImageError:
        return
    for image in images:
        assert contents(other, image) == contents(store, two[0])


def test_a_gzip_bomb_ends_at_the_limit(other: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime.image.layer import Limits

    monkeypatch.setattr("runtime.image.bundle.Limits", lambda: Limits(total_bytes=1 << 20))
    with pytest.raises(ImageError, match="larger than any image may be"):
        load(other, io.BytesIO(gzip.compress(bytes(2 << 20))))
    with pytest.raises(ImageError, match="gzip stream is damaged"):
        load(other, io.BytesIO(gzip.compress(bytes(1000))[:-9]))


def test_a_flood_of_members_is_refused(other: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.image.bundle.MAX_MEMBERS", 10)
    with pytest.raises(ImageError, match="more than 10 members"):
        load(other, io.BytesIO(archive_of({str(number): b"" for number in range(11)})))


def test_a_link_in_circles_leads_nowhere(other: Store) -> None:
    circle = archive_of({}, {"index.json": "index.json", "manifest.json": "a", "a": "b", "b": "a"})
    with pytest.raises(ImageError, match="neither an OCI nor a docker archive"):
        load(other, io.BytesIO(circle))


def test_a_new_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def interrupted() -> None:
        with new_file(path) as file:
            file.write(b"half")
            assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - so early it has no name
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "before"
    with new_file(path) as file:
        file.write(b"after")
    assert path.read_text() == "after"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_a_corrupt_blob_is_not_saved(store: Store, two: tuple[Image, Image]) -> None:
    layer = two[0].manifest.layers[1]
    path = store.root / "blobs/sha256" / layer.digest.removeprefix("sha256:")
    path.write_bytes(bytes(layer.size_bytes))
    for form in ("oci", "docker"):
        with pytest.raises(ImageError, match=layer.digest):
            saved(store, ["one:1"], form)


def test_a_name_that_is_taken_over_is_told(
    store: Store, two: tuple[Image, Image], other: Store
) -> None:
    tar = saved(store, ["one:1"], "oci")
    assert [each.replaced for each in load(other, io.BytesIO(tar))] == [{}]
    assert [each.replaced for each in load(other, io.BytesIO(tar))] == [{}]  # it stays the same
    load(other, io.BytesIO(saved(store, ["localhost:5000/two:2"], "oci")))
    other.tag(two[1].digest, "one:1")
    (again,) = load(other, io.BytesIO(tar))
    assert again.replaced == {"one:1": two[1].digest}


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_one_layer_thousands_of_times_is_refused_at_once(
    two: tuple[Image, Image], store: Store, other: Store, form: Form
) -> None:
    parts = taken_apart(saved(store, ["one:1"], form))
    many = 3000
    if form == "docker":
        (line,) = json.loads(parts["manifest.json"])
        config = json.loads(parts.pop(line["Config"]))
        config["rootfs"]["diff_ids"] = [config["rootfs"]["diff_ids"][0]] * many
        line["Layers"] = [line["Layers"][0]] * many
        parts[line["Config"]] = json.dumps(config).encode()
        parts["manifest.json"] = json.dumps([line]).encode()
    else:
        raw = store.read_blob(two[0].digest)
        manifest = json.loads(raw)
        manifest["layers"] = [manifest["layers"][0]] * many
        raw = json.dumps(manifest).encode()
        digest = hashlib.sha256(raw).hexdigest()
        parts[f"blobs/sha256/{digest}"] = raw
        index = json.loads(parts["index.json"])
        index["manifests"][0] |= {"digest": f"sha256:{digest}", "size": len(raw)}
        parts["index.json"] = json.dumps(index).encode()
    with pytest.raises(ImageError, match="has 3000 layers; more than 500"):
        load(other, io.BytesIO(archive_of(parts)))
    assert not other.images()


def test_what_a_load_that_failed_wrote_goes_again(
    store: Store, two: tuple[Image, Image], other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = saved(store, ["one:1"], "oci")
    load(other, io.BytesIO(saved(store, ["localhost:5000/two:2"], "oci")))
    before = sorted((other.root / "blobs" / "sha256").iterdir())

    def fails(*_: object) -> Image:
        raise ImageError("the index cannot be written")

    monkeypatch.setattr(Store, "tag", fails)
    with pytest.raises(ImageError, match="cannot be written"):
        load(other, io.BytesIO(tar))
    assert sorted((other.root / "blobs" / "sha256").iterdir()) == before
    assert two[1].digest == other.images()[0].digest
