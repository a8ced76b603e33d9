import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.image import ImageError, parse_reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "normal", "registry", "repository"),
    [
        ("busybox", "busybox:latest", None, "busybox"),
        ("busybox:1.35", "busybox:1.35", None, "busybox"),
        ("a/b/c:T_1", "a/b/c:T_1", None, "a/b/c"),
        ("localhost/a", "localhost/a:latest", "localhost", "a"),
        ("localhost:5000/a:b", "localhost:5000/a:b", "localhost:5000", "a"),
        ("reg.example/a__b/c-d---e", "reg.example/a__b/c-d---e:latest", "reg.example", None),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000", "a"),
        ("Host/a", "Host/a:latest", "Host", "a"),
        (f"a@{DIGEST}", f"a@{DIGEST}", None, "a"),
        (f"a:t@{DIGEST}", f"a:t@{DIGEST}", None, "a"),
        ("a:" + "t" * 128, "a:" + "t" * 128, None, "a"),
    ],
)
def test_parses(text: str, normal: str, registry: str | None, repository: str | None) -> None:
    reference = parse_reference(text)
    assert str(reference) == normal
    assert reference.registry == registry
    assert repository is None or reference.repository == repository


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "name part ''"),
        ("Busybox", "name part 'Busybox'"),
        ("a//b", "name part ''"),
        ("/a", "name part ''"),
        ("a/", "name part ''"),
        ("a..b", "name part 'a..b'"),
        ("a___b", "name part"),
        ("-a", "name part '-a'"),
        ("../a", "'..' is no registry host"),
        ("a:", "the tag ''"),
        ("a:" + "t" * 129, "the tag"),
        ("a:-t", "the tag '-t'"),
        ("a:t\n", "the tag 't\\n'"),
        ("a\0", "name part 'a\\x00'"),
        ("a@sha256:ab", "the digest 'sha256:ab'"),
        ("a@", "the digest ''"),
        (f"a@{DIGEST.upper()}", "the digest"),
        (f"@{DIGEST}", "name part ''"),
        ("ab" * 32, "taken for a digest"),
        (DIGEST, "taken for a digest"),
        ("sha256:tag", "taken for a digest"),
        ("a" * 256, "longer than 255"),
        ("reg.example:port/a", "no registry host"),
    ],
)
def test_refuses_and_says_which_part(text: str, why: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse_reference(text)
    assert why in caught.value.message
    assert caught.value.remedy is not None


@given(st.text(alphabet=string.ascii_letters + string.digits + ":/@._-[]\n\0é", max_size=40))
def test_whatever_is_accepted_has_one_spelling(text: str) -> None:
    try:
        reference = parse_reference(text)
    except ImageError:
        return
    assert parse_reference(str(reference)) == reference
    assert reference.tag is not None or reference.digest is not None
    assert str(reference).isprintable()
