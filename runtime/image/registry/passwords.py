"""Who may come in: a file as ``htpasswd -5`` makes it, ``USER:$6$SALT$HASH`` on each line.

SHA-crypt is computed here, since Python has no module for it that will stay and bcrypt, the
other thing that htpasswd writes, would need a library. Source: U. Drepper, "Unix crypt using
SHA-256 and SHA-512" (2008); its steps are numbered in the comments.
"""

import base64
import binascii
import hashlib
import hmac
import re
import threading
from pathlib import Path

from runtime.image.registry.errors import RegistryError

MAX_FILE_BYTES = 1 << 20

_MAX_KNOWN = 256
_ENTRY = re.compile(r"([^:\s]+):\$6\$(?:rounds=(\d{4,6})\$)?([^$:]{1,16})\$([./0-9A-Za-z]{86})")
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROUNDS = 5000


class Passwords:
    """The users in a file. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self._users = _read(path)
        self._guard = threading.Lock()
        self._known: set[bytes] = set()  # of headers that were right: the hash is slow on purpose

    def admit(self, header: str | None) -> bool:
        """Whether an ``Authorization`` header names a user with the right password."""
        scheme, _, encoded = (header or "").partition(" ")
        if scheme.lower() != "basic":
            return False
        mark = hashlib.sha256(encoded.encode("utf-8", "replace")).digest()
        with self._guard:
            if mark in self._known:
                return True
        try:
            user, _, password = base64.b64decode(encoded, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        right = self._is_right(user.decode("utf-8", "replace"), password)
        with self._guard:
            if right and len(self._known) < _MAX_KNOWN:
                self._known.add(mark)
        return right

    def _is_right(self, user: str, password: bytes) -> bool:
        rounds, salt, wanted = self._users.get(user, (_ROUNDS, "unknown", ""))
        found = sha512_crypt(password[:1024], salt.encode(), rounds)  # as long for a stranger
        return hmac.compare_digest(found, wanted)


def sha512_crypt(password: bytes, salt: bytes, rounds: int = _ROUNDS) -> str:
    """The 86 characters after ``$6$SALT$`` for *password*."""
    size = len(password)
    b = hashlib.sha512(password + salt + password).digest()  # 4-8
    a = hashlib.sha512(password + salt + _repeated(b, size))  # 1-3, 9, 10
    left = size
    while left:  # 11
        a.update(b if left & 1 else password)
        left >>= 1
    digest = a.digest()
    p = _repeated(hashlib.sha512(password * size).digest(), size)  # 13-16
    s = _repeated(hashlib.sha512(salt * (16 + digest[0])).digest(), len(salt))  # 17-20
    for number in range(rounds):  # 21
        parts = (
            p if number & 1 else digest,
            s if number % 3 else b"",
            p if number % 7 else b"",
            digest if number & 1 else p,
        )
        digest = hashlib.sha512(b"".join(parts)).digest()
    return _encoded(digest)


def _repeated(block: bytes, size: int) -> bytes:
    return (block * (size // len(block) + 1))[:size]


def _encoded(digest: bytes) -> str:
    """Step 22: three bytes become four characters, in an order of its own."""
    text = []
    first, second, third = 0, 21, 42
    for _ in range(21):
        text.append(_characters(digest[first] << 16 | digest[second] << 8 | digest[third], 4))
        first, second, third = second + 1, third + 1, first + 1
    return "".join([*text, _characters(digest[63], 2)])


def _characters(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 6 * place & 63] for place in range(count))


def _read(path: Path) -> dict[str, tuple[int, str, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            lines = file.read(MAX_FILE_BYTES).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RegistryError(f"cannot read {path}: {why}") from error
    users = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _ENTRY.fullmatch(line.strip())
        if match is None:
            raise RegistryError(
                f"{path}, line {number}: not a SHA-512 password",
                remedy=f"make it with 'htpasswd -5 {path} USER'",
            )
        users[match[1]] = (int(match[2] or _ROUNDS), match[3], match[4])
    if not users:
        raise RegistryError(f"{path} names no user", remedy=f"add one: 'htpasswd -5 {path} USER'")
    return users
