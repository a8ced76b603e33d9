"""Whom we believe: certificates of registries, and when no TLS is needed.

Own certificates lie where docker has them (docker docs, "Verify repository client with
certificates"): ``certs.d/HOST:PORT/*.crt`` are authorities, ``NAME.cert`` with ``NAME.key`` says
who we are. The folder in the state directory is looked at before ``/etc/docker/certs.d``.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.image.home import state_dir
from runtime.image.registry.errors import RegistryError
from runtime.image.registry.url import Url

if TYPE_CHECKING:
    import ssl

_MACHINE = Path("/etc/docker/certs.d")


class Trust:
    """How connections are secured. *authorities* is a file of certificates that count as well."""

    def __init__(self, authorities: Path | None = None) -> None:
        self.authorities = authorities
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._guard = threading.Lock()

    def secured(self, plain: socket.socket, url: Url) -> "ssl.SSLSocket":
        """TLS over *plain*, with the name of *url* checked. Raises OSError, RegistryError."""
        with self._guard:
            context = self._contexts.get(url.authority) or self._context(url)
            self._contexts[url.authority] = context
        return context.wrap_socket(plain, server_hostname=url.host)

    @contextmanager
    def told(self, url: Url) -> Iterator[None]:
        """Turn a certificate that does not hold into an error that says what helps."""
        import ssl  # noqa: PLC0415 - heavy, and plain connections do without

        try:
            yield
        except RegistryError as error:
            cause = error.__cause__
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise RegistryError(
                    f"the certificate of {url.authority} is not trusted: {cause.verify_message}",
                    remedy=f"give its authority with --ca FILE, or as {_folder(url)}/ca.crt",
                ) from cause
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, TimeoutError):
                raise RegistryError(
                    f"{url.authority} does not speak TLS ({cause.reason or 'it hung up'})",
                    remedy="use --plain-http if you trust the network between",
                ) from cause
            raise

    def _context(self, url: Url) -> "ssl.SSLContext":
        import ssl  # noqa: PLC0415

        context = ssl.create_default_context()
        files = [] if self.authorities is None else [self.authorities]
        folders = [folder / url.authority for folder in (state_dir() / "certs.d", _MACHINE)]
        files += [path for folder in folders for path in sorted(folder.glob("*.crt"))]
        for path in files:
            _told_of(path, partial(context.load_verify_locations, path))
        for folder in folders:
            for path in sorted(folder.glob("*.cert")):
                key = path.with_suffix(".key")
                _told_of(path, partial(context.load_cert_chain, path, key))
        return context


def server_context(certificate: Path, key: Path | None) -> "ssl.SSLContext":
    """TLS for a registry of ours. Raises RegistryError."""
    import ssl  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _told_of(certificate, partial(context.load_cert_chain, certificate, key))
    return context


def _folder(url: Url) -> Path:
    return state_dir() / "certs.d" / url.authority


def _told_of(path: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except OSError as error:  # SSLError is one
        raise RegistryError(
            f"cannot use {path} as a certificate: {error.strerror or error}",
            remedy="it must hold PEM text",
        ) from error
