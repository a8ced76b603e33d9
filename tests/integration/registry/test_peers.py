"""With other people's programs: Debian's docker-registry, skopeo and podman, both directions."""

import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.image import Image, Store, parse_reference
from runtime.image.cli import main
from runtime.image.registry.access import Access
from runtime.image.registry.errors import RegistryError
from runtime.image.registry.pull import pull
from runtime.image.registry.push import push
from runtime.image.registry.server import Server

MakeImage = Callable[..., Image]
DockerRegistry = Callable[..., str]
Capture = pytest.CaptureFixture[str]


def skopeo(*words: str) -> str:
    if shutil.which("skopeo") is None:
        pytest.skip("no skopeo; apt-get install skopeo")
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *words], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def layout(ours: Store, busybox: Image, tmp_path: Path) -> Path:
    """An OCI layout with the image ``bb``, as skopeo reads it; and the same image in *ours*."""
    machine = Store()
    for blob in (busybox.manifest.config, *busybox.manifest.layers):
        ours.write_blob(machine.read_blob(blob, limit_bytes=1 << 30), blob.media_type)
    ours.write_blob(machine.read_blob(busybox.digest))
    ours.tag(busybox.digest, "busybox")
    skopeo("copy", "-q", f"oci:{ours.root}:busybox:latest", f"oci:{tmp_path}/layout:bb")
    return tmp_path / "layout"


def blobs_of(layout: Path) -> set[str]:
    return {path.name for path in (layout / "blobs/sha256").iterdir()}


def test_docker_registry_both_ways(
    docker_registry: DockerRegistry, ours: Store, theirs: Store, access: Access, layout: Path,
    tmp_path: Path, busybox: Image,
) -> None:  # fmt: skip
    host = docker_registry()
    first, second = parse_reference(f"{host}/a/b:1"), parse_reference(f"{host}/c/d:1")
    done = push(ours, "busybox", first, access)
    assert (done.uploaded, done.existing) == (2, 0)
    assert push(ours, "busybox", first, access).existing == 2
    ours.tag(busybox.digest, str(first))
    assert push(ours, "busybox", second, access).mounted == 2
    skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{second}", f"oci:{tmp_path}/out:x")
    assert blobs_of(tmp_path / "out") == blobs_of(layout)
    for kind in ("oci", "v2s2"):
        target = f"docker://{host}/e/{kind}:1"
        words = ("--dest-tls-verify=false", "--format", kind)
        skopeo("copy", "-q", *words, f"oci:{layout}:bb", target)
        pulled = pull(theirs, parse_reference(f"{host}/e/{kind}:1"), access)
        assert pulled.image.manifest.media_type.endswith(
            {"oci": "oci.image.manifest.v1+json", "v2s2": "manifest.v2+json"}[kind]
        )
        assert pulled.image.config.diff_ids == busybox.config.diff_ids


def test_docker_registry_with_tls_and_a_password(
    docker_registry: DockerRegistry, certificate: Path, tmp_path: Path, login_file: Path,
    layout: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, ours: Store,
) -> None:  # fmt: skip
    if shutil.which("htpasswd") is None:
        pytest.skip("no htpasswd; apt-get install apache2-utils")
    users = tmp_path / "users"
    subprocess.run(
        ["htpasswd", "-Bbc", str(users), "alice", "s3cret"], check=True, capture_output=True
    )
    authority, key = certificate / "cert.pem", certificate / "key.pem"
    host = docker_registry(
        http=f", tls: {{certificate: {authority}, key: {key}}}",
        more=f"auth: {{htpasswd: {{realm: test, path: {users}}}}}\n",
    ).replace("127.0.0.1", "localhost")
    monkeypatch.setattr("runtime.image.cli.Store", lambda: ours)
    name, ca = f"{host}/a/b:1", ["--ca", str(authority)]

    with pytest.raises(RegistryError, match=r"not trusted.*ca\.crt"):
        main(["push", "busybox", name])
    with pytest.raises(RegistryError, match="image login"):
        main(["push", "busybox", name, *ca])
    monkeypatch.setattr("sys.stdin", io.StringIO("wrong\n"))
    with pytest.raises(RegistryError, match="does not know this user"):
        main(["login", "-u", "alice", "--password-stdin", host, *ca])
    assert not login_file.exists()
    monkeypatch.setattr("sys.stdin", io.StringIO("s3cret\n"))
    assert main(["login", "-u", "alice", "--password-stdin", host, *ca]) == 0
    assert "plain text" in capsys.readouterr().err
    assert login_file.stat().st_mode & 0o777 == 0o600

    # docker's and skopeo's way to say the same: the file, and a folder of certificates
    folder = Path(os.environ["ISOSCOPE_HOME"]) / "certs.d" / host
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(authority.read_bytes())
    assert main(["push", "--json", "busybox", name]) == 0
    assert json.loads(capsys.readouterr().out)["blobs"]["uploaded"] == 2
    words = ("--src-cert-dir", str(folder), "--src-authfile", str(login_file))
    skopeo("copy", "-q", *words, f"docker://{name}", f"oci:{tmp_path}/out:x")
    assert blobs_of(tmp_path / "out") == blobs_of(layout)
    assert main(["tags", f"{host}/a/b"]) == 0
    assert capsys.readouterr().out == "1\n"
    assert main(["logout", host]) == 0
    with pytest.raises(RegistryError, match="image login"):
        main(["pull", name])


def test_skopeo_with_our_registry(
    server: Server, theirs: Store, layout: Path, tmp_path: Path, busybox: Image
) -> None:
    host = server.authority
    for kind in ("oci", "v2s2"):
        name = f"docker://{host}/a/{kind}:1"
        words = ("--dest-tls-verify=false", "--format", kind)
        skopeo("copy", "-q", *words, f"oci:{layout}:bb", name)
        assert theirs.resolve(f"a/{kind}:1").config.diff_ids == busybox.config.diff_ids
    out = f"oci:{tmp_path}/out:x"
    skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{host}/a/oci:1", out)
    assert blobs_of(tmp_path / "out") == blobs_of(layout)
    tags = json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{host}/a/oci"))
    assert tags["Tags"] == ["1"]
    skopeo("delete", "--tls-verify=false", f"docker://{host}/a/oci:1")
    assert [each.references for each in theirs.images()] == [("a/v2s2:1",)]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")
def test_podman_with_our_registry(
    server: Server, theirs: Store, make: MakeImage, tmp_path: Path, login_file: Path
) -> None:
    if shutil.which("podman") is None:
        pytest.skip("no podman; apt-get install podman")
    login_file.parent.mkdir()
    login_file.write_text("{}")  # podman insists on it

    short = tempfile.TemporaryDirectory()  # podman allows a path of 50 characters

    def podman(*words: str) -> None:
        place = ["--root", str(tmp_path / "root"), "--runroot", f"{short.name}/run"]
        done = subprocess.run(
            ["podman", *place, "--storage-driver", "vfs", *words],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    image = make(theirs, "a/b:1", tars=True)
    host = server.authority
    with short:
        podman("pull", "--tls-verify=false", f"{host}/a/b:1")
        podman("tag", f"{host}/a/b:1", f"{host}/p/q:2")
        podman("push", "--tls-verify=false", f"{host}/p/q:2")
    # podman compresses anew: what is the same is the tree, by its hash
    assert theirs.resolve("p/q:2").config.diff_ids == image.config.diff_ids
