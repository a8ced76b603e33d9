from pathlib import Path

import pytest

from runtime.image import parse_reference
from runtime.image.registry.errors import RegistryError
from runtime.image.registry.places import Settings, parse_registry, read_settings
from runtime.image.registry.url import is_loopback, parse_url


@pytest.mark.parametrize(
    ("typed", "registry", "repository"),
    [
        ("alpine", "docker.io", "library/alpine"),
        ("user/app:1", "docker.io", "user/app"),
        ("docker.io/alpine", "docker.io", "library/alpine"),
        ("docker.io/library/alpine", "docker.io", "library/alpine"),
        ("index.docker.io/user/app", "docker.io", "user/app"),
        ("reg.example/alpine", "reg.example", "alpine"),
        ("localhost:5000/a/b", "localhost:5000", "a/b"),
    ],
)
def test_where_a_name_leads(typed: str, registry: str, repository: str) -> None:
    place = Settings().place(parse_reference(typed))
    assert (place.registry, place.repository) == (registry, repository)


@pytest.mark.parametrize(
    ("typed", "spelling"),
    [
        ("docker.io/library/alpine:3", "alpine:3"),
        ("docker.io/alpine", "alpine:latest"),
        ("docker.io/a/b", "a/b:latest"),
        ("docker.io/library/a/b", "library/a/b:latest"),
        ("library/alpine", "library/alpine:latest"),
    ],
)
def test_long_names_of_the_hub_have_the_short_spelling(typed: str, spelling: str) -> None:
    assert str(parse_reference(typed)) == spelling


@pytest.mark.parametrize(
    ("registry", "plain", "bases"),
    [
        ("reg.example", False, ["https://reg.example/"]),
        ("reg.example:5000", True, ["http://reg.example:5000/"]),
        ("localhost:5000", False, ["http://localhost:5000/", "https://localhost:5000/"]),
        ("127.0.0.9", False, ["http://127.0.0.9/", "https://127.0.0.9/"]),
        ("[::1]:5000", False, ["http://[::1]:5000/", "https://[::1]:5000/"]),
        ("localhost.example", False, ["https://localhost.example/"]),
        ("127.0.0.1.example", False, ["https://127.0.0.1.example/"]),
    ],
)
def test_no_tls_only_here_or_when_told(registry: str, plain: bool, bases: list[str]) -> None:  # noqa: FBT001
    found = Settings(plain_http=plain).bases(registry)
    assert [str(base) for base in found] == bases


def test_mirrors_come_first(tmp_path: Path) -> None:
    path = tmp_path / "registries.toml"
    path.write_text('[mirrors]\n"docker.io" = ["https://m.example", "127.0.0.1:5001/cache/"]\n')
    settings = read_settings(path=path)
    first, second, home = settings.pull_places(parse_reference("alpine"))
    assert (str(first.bases[0]), first.path) == ("https://m.example/", "library/alpine")
    assert [str(base) for base in second.bases] == [
        "http://127.0.0.1:5001/",
        "https://127.0.0.1:5001/",
    ]
    assert second.path == "cache/library/alpine"
    assert home.registry == "docker.io"
    assert settings.pull_places(parse_reference("other.example/a"))[0].registry == "other.example"
    assert settings.place(parse_reference("alpine")).registry == "docker.io"


@pytest.mark.parametrize(
    "text", ["mirrors = 5", "[mirrors]\na = 'b'", "[mirrors]\na = [5]", "[", "\xff"]
)
def test_settings_that_make_no_sense(text: str, tmp_path: Path) -> None:
    path = tmp_path / "registries.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RegistryError, match=r"registries\.toml"):
        read_settings(path=path)
    assert read_settings(path=tmp_path / "none").mirrors == {}


@pytest.mark.parametrize(
    ("typed", "registry"),
    [
        ("reg.example", "reg.example"),
        ("https://reg.example:5000/", "reg.example:5000"),
        ("docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
    ],
)
def test_the_registry_of_a_login(typed: str, registry: str) -> None:
    assert parse_registry(typed) == registry


@pytest.mark.parametrize("typed", ["", "reg.example/a", "a b", "reg.example:x", "u@h", "\x1b[2J"])
def test_what_is_no_registry(typed: str) -> None:
    with pytest.raises(RegistryError, match="is no registry"):
        parse_registry(typed)


@pytest.mark.parametrize(
    "text",
    [
        "", "/v2/", "ftp://h/", "https://", "https://h:port/", "https://h:99999/", "https://u@h/",
        "https://h/a b", "https://h/\r\nX: y", "https://h\\x/", "https://h/" + "x" * 20_000,
        "https://é/", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(RegistryError, match="no address"):
        parse_url(text)


def test_addresses_are_joined() -> None:
    base = parse_url("https://h:444/v2/a?x=1")
    assert str(base.joined("/b?c=d")) == "https://h:444/b?c=d"
    assert str(base.joined("http://other/b")) == "http://other/b"
    assert str(base.with_query("y=2")) == "https://h:444/v2/a?x=1&y=2"
    assert base.joined("/z").origin == base.origin
    assert parse_url("https://H/").origin == parse_url("https://h:443/x").origin


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.8.9.1", True), ("::1", True), ("0.0.0.0", False), ("h", False)],  # noqa: S104
)
def test_loopback(host: str, here: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is here
