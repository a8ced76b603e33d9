"""Documents from strangers: read as they are meant or refused in a typed, printable sentence."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.image import Image, ImageConfig, ImageError, Manifest, Store, parse_reference
from runtime.image.document import parse_document, parse_list
from runtime.image.history import history
from runtime.image.index import find, parse_index, render_index, tagged, without
from runtime.image.registry.choice import choose, parse_entries, this_platform

Pack = Callable[..., bytes]
MakeImage = Callable[..., Image]
Member = Callable[..., Any]

DIGEST = "sha256:" + "ab" * 32
DIGESTS = st.sampled_from([DIGEST, "sha256:" + "cd" * 32, "sha256:0", "md5:00", "", "../x"])
KEYS = st.sampled_from(
    ["schemaVersion", "mediaType", "manifests", "annotations", "digest", "size", "platform",
     "os", "architecture", "org.opencontainers.image.ref.name", "history", "empty_layer", "\x1b"]
)  # fmt: skip
VALUES = (
    st.none()
    | st.booleans()
    | st.sampled_from([2, -1, 1 << 70, 1.5, float("nan"), "linux", "amd64", "a\nb", "\x1b[2J"])
    | DIGESTS
)
ANY = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)


def checked(read: Callable[[], Any]) -> Any:
    """What *read* gives; None where it refuses as it should."""
    try:
        return read()
    except ImageError as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right
        return None


@given(ANY)
def test_any_index_is_read_or_refused(manifests: Any) -> None:
    raw = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    if (entries := checked(lambda: parse_index(raw))) is not None:
        again = parse_index(render_index(entries))
        assert again == entries
        for entry in entries:
            digest = entry.descriptor.digest
            assert find(entries, digest).digest == digest
            assert digest not in {e.descriptor.digest for e in without(entries, digest)}
            named = tagged(entries, entry.descriptor, "x:y")
            assert find(named, "x:y").digest == digest
            assert [e.reference for e in named].count("x:y") == 1
    chosen = checked(lambda: choose(parse_entries(raw, DIGEST), this_platform(), DIGEST))
    assert chosen is None or chosen.digest.startswith("sha256:")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY)
def test_any_history_is_told_or_refused(
    store: Store, make_image: MakeImage, pack: Pack, member: Member, told: Any
) -> None:
    image = make_image(pack(member("a")))
    config = json.loads(store.read_blob(image.manifest.config)) | {"history": told}

    class Told:
        """The store, with another configuration."""

        @staticmethod
        def read_blob(_: object) -> bytes:
            return json.dumps(config).encode()

    steps = checked(lambda: history(Told, image))  # type: ignore[arg-type]
    if steps is not None:
        assert [step.layer for step in steps if step.layer] == list(image.manifest.layers)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_refused(raw: bytes) -> None:
    for read in (parse_document, parse_list):
        checked(lambda read=read: read(raw, DIGEST))  # type: ignore[misc]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1, "a": 1}',
        b'{"x": {"digest": "1", "digest": "2"}}',
        b'{"x": [{"\\u0061": 1, "a": 2}]}',
        b'{"\\u001b[2J": 1, "\\u001b[2J": 2}',
    ],
)
def test_a_field_that_is_there_twice_is_refused(raw: bytes) -> None:
    with pytest.raises(ImageError, match="is there twice") as caught:
        parse_document(raw, DIGEST)
    assert caught.value.message.startswith(DIGEST)
    assert str(caught.value).isprintable()


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    parsed = checked(lambda: parse_reference(text))
    assert parsed is None or str(parsed).isascii()


@pytest.mark.parametrize("depth", [500, 5_000, 200_000])
def test_depth_is_bounded(depth: int) -> None:
    raw = b'{"config": ' + b'{"a": ' * depth + b"1" + b"}" * depth + b"}"
    for read in (Manifest.from_json, ImageConfig.from_json):
        with pytest.raises(ImageError) as caught:
            read(raw, DIGEST)
        assert caught.value.message.startswith(DIGEST)
        assert len(str(caught.value)) < 300


def test_long_and_odd_values_are_not_repeated_at_length() -> None:
    for text in ("x" * 100_000, "\x1b" * 100_000, "a/" * 50_000):
        with pytest.raises(ImageError) as caught:
            parse_reference(text)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000
