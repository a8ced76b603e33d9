"""Who we are to a registry: docker's ``config.json``, and the helper programs it names.

Reads ``auths``, ``credHelpers`` and ``credsStore``, so that a login with docker counts here and
the reverse. Sources: docker docs, "docker login"; docker-credential-helpers, README.
"""

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from runtime.image.durable import locked_directory, write_whole
from runtime.image.registry.errors import RegistryError
from runtime.image.registry.places import DOCKER_HUB

_HUB_KEY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # noqa: S105 - what helpers call the user of an identity token
_HELPER = re.compile(r"[A-Za-z0-9_.-]+")
_HELPER_PATIENCE_S = 60.0
_MAX_CONFIG_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A user with a password, or a token that stands for both; neither is ever printed."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header (RFC 7617)."""
        pair = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


class Known(Protocol):
    """Who can say who we are."""

    def find(self, registry: str) -> Credential | None:
        """The credential for *registry*, if there is one. Raises RegistryError."""


@dataclass(frozen=True, slots=True)
class Only:
    """One credential, for whichever registry is asked: that of somebody who logs in."""

    credential: Credential

    def find(self, registry: str) -> Credential | None:  # noqa: ARG002 - as Known says
        """The credential."""
        return self.credential


class Credentials:
    """The credentials in the file *path*; without one, where docker keeps its own."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = _docker_config() if path is None else path

    def find(self, registry: str) -> Credential | None:
        """What is known for *registry*, or None. Raises RegistryError if it cannot be read."""
        config = self._read()
        if helper := _helper(config, registry):
            return _from_helper(helper, registry)
        entries = _mapping(config, "auths")
        for key in _keys(registry):
            if isinstance(entry := entries.get(key), dict) and entry:
                return _decoded(entry, self.path)
        return None

    def save(self, registry: str, credential: Credential) -> str | None:
        """Remember *credential*; the program that keeps it, or None if the file does, as text."""
        config = self._read()
        if helper := _helper(config, registry):
            answer = {
                "ServerURL": _keys(registry)[0],
                "Username": credential.user,
                "Secret": credential.password,
            }
            _ask(helper, "store", json.dumps(answer))
            return helper
        pair = f"{credential.user}:{credential.password}".encode()
        self._change(registry, {"auth": base64.b64encode(pair).decode()})
        return None

    def forget(self, registry: str) -> bool:
        """Remove what is known for *registry*; whether there was something."""
        config = self._read()
        if helper := _helper(config, registry):
            known = _from_helper(helper, registry) is not None
            if known:
                _ask(helper, "erase", _keys(registry)[0])
            return known
        known = any(key in _mapping(config, "auths") for key in _keys(registry))
        if known:
            self._change(registry, None)
        return known

    def _read(self) -> dict[str, Any]:
        try:
            with self.path.open("rb") as file:
                config = json.loads(file.read(_MAX_CONFIG_BYTES))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise RegistryError(f"cannot read {self.path}: {why}") from error
        if not isinstance(config, dict):
            raise RegistryError(f"{self.path} does not hold a JSON object")
        return config

    def _change(self, registry: str, entry: Mapping[str, str] | None) -> None:
        """Let *entry* be all that the file says about *registry*; the rest of it stays."""
        path = self.path.resolve()  # people keep it elsewhere and link to it
        try:
            path.parent.parent.mkdir(parents=True, exist_ok=True)
            with locked_directory(path.parent):
                config = self._read()
                others = _mapping(config, "auths").items()
                auths = {key: value for key, value in others if key not in _keys(registry)}
                if entry is not None:
                    auths[_keys(registry)[0]] = entry
                text = json.dumps({**config, "auths": auths}, indent="\t") + "\n"
                write_whole(path, text.encode(), mode=0o600)
        except OSError as error:
            raise RegistryError(f"cannot write {path}: {error.strerror}") from error


def _docker_config() -> Path:
    if folder := os.environ.get("DOCKER_CONFIG"):
        return Path(folder).absolute() / "config.json"
    try:
        return Path.home() / ".docker" / "config.json"
    except RuntimeError as error:  # no HOME and no passwd entry
        raise RegistryError(
            "this user has no home directory", remedy="set DOCKER_CONFIG to a directory of yours"
        ) from error


def _keys(registry: str) -> tuple[str, ...]:
    """What *registry* may be called in the file; the first is how we write it."""
    if registry == DOCKER_HUB:
        return _HUB_KEY, "index.docker.io", "docker.io", "https://index.docker.io/v1"
    return registry, f"https://{registry}", f"http://{registry}", f"https://{registry}/v2/"


def _mapping(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def _helper(config: Mapping[str, Any], registry: str) -> str | None:
    """The program that keeps the credentials of *registry*, or None if the file does."""
    helpers = _mapping(config, "credHelpers")
    named = next((helpers[key] for key in _keys(registry) if key in helpers), None)
    suffix = named or config.get("credsStore")
    if not suffix:
        return None
    if not isinstance(suffix, str) or not _HELPER.fullmatch(suffix):
        raise RegistryError(f"{suffix!r} is no name of a credential helper")
    return f"docker-credential-{suffix}"


def _from_helper(helper: str, registry: str) -> Credential | None:
    for key in _keys(registry):
        answer = _ask(helper, "get", key)
        if answer is not None:
            try:
                found = json.loads(answer)
                user, secret = found["Username"], found["Secret"]
            except (ValueError, KeyError, TypeError, RecursionError):
                raise RegistryError(f"{helper} answers with something else than a login") from None
            if user == _TOKEN_USER:
                return Credential(identity_token=str(secret))
            return Credential(user=str(user), password=str(secret))
    return None


def _ask(helper: str, action: str, text: str) -> str | None:
    """What *helper* says; None if it does not know the registry. Raises RegistryError."""
    try:
        done = subprocess.run(
            [helper, action],
            input=text,
            capture_output=True,
            text=True,
            timeout=_HELPER_PATIENCE_S,
            check=False,
        )
    except FileNotFoundError:
        raise RegistryError(
            f"the credential helper {helper} is not installed",
            remedy="install it, or remove it from docker's config.json",
        ) from None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise RegistryError(f"the credential helper {helper} failed: {error}") from error
    if done.returncode == 0:
        return done.stdout
    said = (done.stdout + done.stderr).strip()
    if action == "get" and "not found" in said:
        return None
    raise RegistryError(f"the credential helper {helper} failed: {said[:200]}")


def _decoded(entry: Mapping[str, Any], path: Path) -> Credential:
    if token := entry.get("identitytoken"):
        return Credential(identity_token=str(token))
    try:
        if not entry.get("auth"):
            user, password = str(entry.get("username", "")), str(entry.get("password", ""))
            f"{user}{password}".encode()  # JSON may hold what is no Unicode
            return Credential(user=user, password=password)
        pair = base64.b64decode(entry["auth"], validate=True).decode()
    except (binascii.Error, TypeError, ValueError):
        raise RegistryError(
            f"{path}: an entry of 'auths' is not USER:PASSWORD in base64", remedy="log in again"
        ) from None
    user, _, password = pair.rstrip("\0").partition(":")
    return Credential(user=user, password=password)
