import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.image import ImageConfig, ImageError, Manifest

DIGEST = "sha256:" + "0" * 64
BLOB = "sha256:" + "1" * 64


def descriptor(**changes: Any) -> dict[str, Any]:
    return {"mediaType": "text/x", "digest": BLOB, "size": 3} | changes


def manifest(**changes: Any) -> bytes:
    document = {"schemaVersion": 2, "config": descriptor(), "layers": [descriptor()]}
    return json.dumps(document | changes).encode()


def config(inner: Any = None, **changes: Any) -> bytes:
    document = {"architecture": "arm64", "os": "linux", "config": inner}
    return json.dumps(document | changes).encode()


def test_manifest_without_media_type_and_with_nulls() -> None:
    read = Manifest.from_json(manifest(annotations=None, layers=None), DIGEST)
    assert (read.layers, read.annotations, read.config.size_bytes) == ((), {}, 3)


def test_config_in_full() -> None:
    inner = {
        "Env": ["A=1", "B=", "C=x=y"],
        "Entrypoint": ["/e"],
        "Cmd": ["c", "d"],
        "WorkingDir": "/w",
        "User": "1:2",
        "StopSignal": "SIGINT",
        "Labels": {"k": "v"},
    }
    raw = config(inner, rootfs={"diff_ids": [BLOB]}, created="2024-02-03T04:05:06.789+02:00")
    assert ImageConfig.from_json(raw, DIGEST) == ImageConfig(
        architecture="arm64",
        os="linux",
        env=(("A", "1"), ("B", ""), ("C", "x=y")),
        entrypoint=("/e",),
        cmd=("c", "d"),
        cwd="/w",
        user="1:2",
        stop_signal="SIGINT",
        labels={"k": "v"},
        diff_ids=(BLOB,),
        created="2024-02-03T04:05:06.789+02:00",
    )


@pytest.mark.parametrize(
    "inner", [None, {}, {"Env": None, "Cmd": None, "User": "", "Labels": None}]
)
def test_config_that_says_nothing(inner: Any) -> None:
    read = ImageConfig.from_json(config(inner), DIGEST)
    assert read == ImageConfig(architecture="arm64", os="linux")
    assert (read.cwd, read.user) == ("/", None)


@pytest.mark.parametrize(
    ("entrypoint", "own", "asked", "runs"),
    [
        (["e"], ["c"], [], ("e", "c")),
        (["e"], ["c"], ["x"], ("e", "x")),
        ([], ["c"], ["x", "y"], ("x", "y")),
        ([], ["c"], [], ("c",)),
        (["e"], [], [], ("e",)),
        ([], [], [], ()),
    ],
)
def test_command(
    entrypoint: list[str], own: list[str], asked: list[str], runs: tuple[str, ...]
) -> None:
    read = ImageConfig.from_json(config({"Entrypoint": entrypoint, "Cmd": own}), DIGEST)
    assert read.command(asked) == runs


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"schemaVersion": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[]", "not an object"),
        (b" " * (4 << 20) + b"{}", "larger than"),
        (manifest(schemaVersion=1), "schemaVersion"),
        (manifest(mediaType="application/vnd.oci.image.index.v1+json"), "mediaType"),
        (manifest(config=None), "config is not a descriptor"),
        (manifest(config=[]), "config is not an object"),
        (manifest(layers={}), "layers is not a list"),
        (manifest(layers=[descriptor()] * 129), "129 times; more than 128"),
        (manifest(layers=[descriptor()] * 501), "has 501 layers; more than 500"),
        (manifest(layers=[None]), "layers[0].mediaType"),
        (manifest(layers=[descriptor(digest="../../etc/passwd")]), "layers[0].digest"),
        (manifest(layers=[descriptor(), descriptor(size=-1)]), "layers[1].size"),
        (manifest(layers=[descriptor(size=True)]), "layers[0].size"),
        (manifest(layers=[descriptor(size=1 << 63)]), "layers[0].size"),
        (manifest(annotations={"a\x1b[2J": 1}), r"annotations.'a\x1b[2J' is not a string"),
    ],
)
def test_a_bad_manifest_names_blob_and_field(raw: bytes, field: str) -> None:
    with pytest.raises(ImageError) as caught:
        Manifest.from_json(raw, DIGEST)
    assert caught.value.message.startswith(DIGEST)
    assert field in caught.value.message


@pytest.mark.parametrize(
    ("inner", "field"),
    [
        (3, "config is not an object"),
        ({"Env": ["A"]}, "config.Env[0] is not NAME=VALUE"),
        ({"Env": ["=x"]}, "config.Env[0] is not NAME=VALUE"),
        ({"Env": ["A=\0"]}, "config.Env[0] is not a string without NUL"),
        ({"Cmd": "sh"}, "config.Cmd is not a list"),
        ({"Cmd": ["a", 1]}, "config.Cmd[1] is not a string"),
        ({"Cmd": ["\ud800"]}, "config.Cmd[0] is not valid Unicode"),
        ({"WorkingDir": "w"}, "config.WorkingDir is not an absolute path"),
        ({"Labels": []}, "config.Labels is not an object"),
    ],
)
def test_a_bad_config_names_blob_and_field(inner: Any, field: str) -> None:
    with pytest.raises(ImageError) as caught:
        ImageConfig.from_json(config(inner), DIGEST)
    assert caught.value.message == f"{DIGEST}: {field}"


@pytest.mark.parametrize("created", ["yesterday", "2024-01-01", "2024-01-01T00:00:00Z\x1b[2J", 0])
def test_a_bad_moment_is_refused(created: Any) -> None:
    with pytest.raises(ImageError, match="created is not"):
        ImageConfig.from_json(config(created=created), DIGEST)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["config", "layers", "digest", "size", "mediaType", "Env", "rootfs"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_or_refused(document: Any) -> None:
    if isinstance(document, dict):
        document = {"schemaVersion": 2, "architecture": "a", "os": "o"} | document
    raw = json.dumps(document).encode()
    for read in (Manifest.from_json, ImageConfig.from_json):
        try:
            read(raw, DIGEST)
        except ImageError as error:
            assert DIGEST in error.message  # noqa: PT017 - either outcome is right
