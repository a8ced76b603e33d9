import base64
import json
import stat
from pathlib import Path

import pytest

from runtime.image.registry.credentials import Credential, Credentials
from runtime.image.registry.errors import RegistryError

ALICE = Credential(user="alice", password="s3:cret")  # noqa: S106
HELPER = """\
#!/bin/sh
# Keeps one login in a file, as docker's helpers speak: get, store, erase.
read -r line
kept="$(dirname "$0")/kept"
case $1 in
store) echo "$line" >"$kept" ;;
erase) rm "$kept" ;;
get) [ -e "$kept" ] && [ "$line" = reg.example ] && cat "$kept" && exit
    echo "credentials not found in native keychain"; exit 1 ;;
esac
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


def write(path: Path, document: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))


def test_a_login_is_kept_for_its_owner_only(path: Path) -> None:
    credentials = Credentials(path)
    assert credentials.find("reg.example") is None
    assert credentials.save("reg.example", ALICE) is None
    assert credentials.find("reg.example") == ALICE
    assert credentials.find("other.example") is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["config.json"]
    assert credentials.forget("reg.example")
    assert not credentials.forget("reg.example")
    assert credentials.find("reg.example") is None


def test_what_else_stands_in_the_file_stays(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "real", {"psFormat": "x", "auths": {"other": {"auth": "eA=="}}})
    path.parent.mkdir()
    path.symlink_to(tmp_path / "real")
    Credentials(path).save("docker.io", ALICE)
    assert path.is_symlink()
    document = json.loads(path.read_text())
    assert document["psFormat"] == "x"
    assert set(document["auths"]) == {"other", "https://index.docker.io/v1/"}
    assert Credentials(path).find("docker.io") == ALICE


@pytest.mark.parametrize(
    "key", ["reg.example", "https://reg.example", "http://reg.example", "https://reg.example/v2/"]
)
def test_docker_writes_keys_in_several_ways(key: str, path: Path) -> None:
    pair = base64.b64encode(b"alice:s3:cret").decode()
    write(path, {"auths": {key: {"auth": pair}}})
    assert Credentials(path).find("reg.example") == ALICE
    write(path, {"auths": {key: {"identitytoken": "t"}}})
    found = Credentials(path).find("reg.example")
    assert found == Credential(identity_token="t")  # noqa: S106
    write(path, {"auths": {key: {}}})
    assert Credentials(path).find("reg.example") is None


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_a_helper_keeps_the_login(key: str, path: Path, helper: Path) -> None:
    write(path, {key: "test" if key == "credsStore" else {"reg.example": "test"}})
    credentials = Credentials(path)
    assert credentials.find("reg.example") is None
    assert credentials.save("reg.example", ALICE) == helper.name
    assert credentials.find("reg.example") == ALICE
    assert "s3:cret" not in path.read_text()
    assert credentials.forget("reg.example")
    assert credentials.find("reg.example") is None
    assert credentials.find("other.example") is None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo nonsense", "something else than a login"),
        ("echo '{}'", "something else than a login"),
        ("echo locked >&2; exit 1", "failed: locked"),
    ],
)
def test_helpers_that_fail_say_so(script: str, why: str, path: Path, helper: Path) -> None:
    write(path, {"credsStore": "test"})
    helper.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(RegistryError, match=why):
        Credentials(path).find("reg.example")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "cannot read"),
        ("[]", "does not hold a JSON object"),
        ("[" * 100_000, "cannot read"),
        ('{"auths":{"reg.example":{"auth":"!"}}}', "log in again"),
        ('{"auths":{"reg.example":{"auth":5}}}', "log in again"),
        ('{"auths":{"reg.example":{"username":"\\ud800"}}}', "log in again"),
        ('{"credsStore":"../../bin/sh"}', "no name of a credential helper"),
        ('{"credsStore":"absent-here"}', "is not installed"),
    ],
)
def test_files_that_make_no_sense(text: str, why: str, path: Path) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(RegistryError, match=why):
        Credentials(path).find("reg.example")


def test_secrets_are_not_printed() -> None:
    shown = repr(Credential(user="alice", password="s3cret", identity_token="t0ken"))  # noqa: S106
    assert "s3cret" not in shown
    assert "t0ken" not in shown
