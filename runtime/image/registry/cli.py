"""``isoscope image pull|push|copy|tags|login|logout`` and ``isoscope registry serve``.

What a verb needs is imported when it runs: listing images must not wait for an HTTP client.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commandline import Parser
from runtime.fault import printable
from runtime.image.reference import parse_reference
from runtime.image.registry.errors import RegistryError
from runtime.image.show import amount
from runtime.image.store import Store

if TYPE_CHECKING:
    from runtime.image.registry.access import Access
    from runtime.image.registry.choice import Platform

Verbs = Any  # argparse names its type of subparsers with an underscore
MAX_PASSWORD_BYTES = 64 << 10


def add_image_verbs(verbs: Verbs) -> None:
    """Add to ``isoscope image`` what it does with registries."""
    pull = verbs.add_parser("pull", help="get an image from a registry")
    pull.add_argument("name", metavar="IMAGE")
    _add_options(pull, moves=True)
    pull.set_defaults(verb=_pull)

    push = verbs.add_parser("push", help="send an image to a registry")
    push.add_argument("name", metavar="IMAGE")
    push.add_argument("target", metavar="NAME", nargs="?", help="its name there, if not the same")
    _add_options(push, moves=True, platform=False)
    push.set_defaults(verb=_push)

    copy = verbs.add_parser("copy", help="copy from registry to registry, all platforms")
    copy.add_argument("source", metavar="FROM")
    copy.add_argument("target", metavar="TO")
    copy.add_argument("--referrers", action="store_true", help="signatures and such come too")
    _add_options(copy, moves=True)
    copy.set_defaults(verb=_copy)

    tags = verbs.add_parser("tags", help="list the tags in a registry, or what refers to a digest")
    tags.add_argument("name", metavar="NAME", help="without a tag; with a digest for --referrers")
    tags.add_argument("--referrers", action="store_true", help="list what refers to NAME@DIGEST")
    _add_options(tags, moves=False)
    tags.set_defaults(verb=_tags)

    login = verbs.add_parser("login", help="remember who you are at a registry")
    login.add_argument("registry", metavar="REGISTRY", nargs="?", default="docker.io")
    login.add_argument("-u", "--username", metavar="USER")
    login.add_argument("--password-stdin", action="store_true", help="read it from standard input")
    _add_options(login, moves=False)
    login.set_defaults(verb=_login)

    logout = verbs.add_parser("logout", help="forget who you are at a registry")
    logout.add_argument("registry", metavar="REGISTRY", nargs="?", default="docker.io")
    logout.set_defaults(verb=_logout)


def main(argv: Sequence[str], *, in_use: Callable[[str], tuple[str, ...]]) -> int:
    """Do what the words after ``isoscope registry`` say; the exit status.

    *in_use* names what stands on an image. Raises RuntimeFault for the caller to show.
    """
    parser = registry_parser()
    arguments = parser.parse_args(argv)
    if arguments.tls_key is not None and arguments.tls_cert is None:
        parser.error("--tls-key needs --tls-cert")
    return _serve(arguments, in_use)


def registry_parser() -> Parser:
    """All the verbs of ``isoscope registry``."""
    description = "Serve this machine's images to others."
    parser = Parser(prog="isoscope registry", description=description)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    serve = verbs.add_parser("serve", help="be a registry over the image store, until Ctrl-C")
    add = serve.add_argument
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="listen there, not on loopback")
    add("--port", type=_port, default=5000, metavar="N", help="not 5000; 0 takes a free one")
    add("--read-only", action="store_true", help="nobody may push")
    add("--allow-delete", action="store_true", help="clients may delete")
    add("--htpasswd", type=Path, metavar="FILE", help="who may come in, made by htpasswd -5")
    add("--tls-cert", type=Path, metavar="FILE", help="speak TLS, with this certificate")
    add("--tls-key", type=Path, metavar="FILE", help="its key, if it is in a file of its own")
    add("-v", "--verbose", action="store_true", help="print each request")
    return parser


def _serve(arguments: argparse.Namespace, in_use: Callable[[str], tuple[str, ...]]) -> int:
    from runtime.image.registry.passwords import Passwords  # noqa: PLC0415
    from runtime.image.registry.server import serving  # noqa: PLC0415
    from runtime.image.registry.service import Service  # noqa: PLC0415
    from runtime.image.registry.trust import server_context  # noqa: PLC0415
    from runtime.image.registry.url import is_loopback  # noqa: PLC0415

    tls = None
    if arguments.tls_cert is not None:
        tls = server_context(arguments.tls_cert, arguments.tls_key)
    service = Service(
        host=arguments.host,
        port=arguments.port,
        read_only=arguments.read_only,
        deletion=arguments.allow_delete,
        tls=tls,
        passwords=None if arguments.htpasswd is None else Passwords(arguments.htpasswd),
        in_use=in_use,
        log=_log if arguments.verbose else _ignore,
    )
    with serving(Store(), service) as server:
        scheme = "http" if tls is None else "https"
        if not is_loopback(arguments.host):
            _warn(_exposed(arguments))
        elif service.passwords is None and not service.read_only:
            _warn("every user of this machine can replace its images; --read-only forbids that")
        _say(f"serving the images of this machine at {scheme}://{server.authority}/")
        sys.stdout.flush()
        server.wait()
    return 0


def _exposed(arguments: argparse.Namespace) -> str:
    """What somebody must know who listens to other machines."""
    who = "everybody who reaches it" if arguments.htpasswd is None else "whoever has a password"
    what = "read" if arguments.read_only else "read and replace"
    plain = "" if arguments.tls_cert else "; without --tls-cert all of it can be overheard"
    return f"{arguments.host} is not this machine alone: {who} can {what} the images{plain}"


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: write a number below 65536")
    return int(text)


def _log(line: str) -> None:
    _warn(printable(line))


def _ignore(_: str) -> None:
    pass


def _add_options(parser: argparse.ArgumentParser, *, moves: bool, platform: bool = True) -> None:
    add = parser.add_argument
    add("--ca", type=Path, metavar="FILE", help="certificates to trust as well, in PEM text")
    add("--plain-http", action="store_true", help="no TLS; on loopback that is tried anyway")
    add("--json", action="store_true", help="print JSON")
    if moves:
        add("-q", "--quiet", action="store_true", help="print the digest only, no progress")
        if platform:
            add("--platform", metavar="OS/ARCH", help="not this machine's, such as linux/arm64")


def _pull(store: Store, arguments: argparse.Namespace) -> int:
    from runtime.image.progress import watcher  # noqa: PLC0415
    from runtime.image.registry.choice import this_platform  # noqa: PLC0415
    from runtime.image.registry.pull import pull  # noqa: PLC0415

    reference = parse_reference(arguments.name)
    access, platform = _access(arguments), _platform(arguments)
    with watcher(quiet=arguments.quiet or arguments.json) as watching:
        done = pull(store, reference, access, platform=platform, watcher=watching)
    if platform is None and not this_platform().suits(done.platform):
        _warn(f"the image is for {done.platform}, which this machine cannot run")
    report = {
        "reference": done.name,
        "digest": done.image.digest,
        "source": done.source,
        "platform": str(done.platform),
        "size_bytes": done.image.size_bytes,
        "downloaded_bytes": done.downloaded_bytes,
    }
    sentence = f"pulled {done.name} from {done.source}, {amount(done.downloaded_bytes)} fetched"
    _report(arguments, report, sentence)
    return 0


def _push(store: Store, arguments: argparse.Namespace) -> int:
    from runtime.image.progress import watcher  # noqa: PLC0415
    from runtime.image.registry.push import push  # noqa: PLC0415

    target = parse_reference(arguments.target or arguments.name)
    access = _access(arguments)
    with watcher(quiet=arguments.quiet or arguments.json) as watching:
        done = push(store, arguments.name, target, access, watcher=watching)
    report = {
        "reference": done.name,
        "digest": done.digest,
        "uploaded_bytes": done.uploaded_bytes,
        "blobs": {
            "uploaded": done.uploaded,
            "mounted": done.mounted,
            "existing": done.existing,
        },
    }
    sentence = (
        f"pushed {done.name}, {amount(done.uploaded_bytes)} sent; blobs: {done.uploaded} sent,"
        f" {done.mounted} linked there, {done.existing} there before"
    )
    _report(arguments, report, sentence)
    return 0


def _copy(_: Store, arguments: argparse.Namespace) -> int:
    from runtime.image.progress import watcher  # noqa: PLC0415
    from runtime.image.registry.copying import copy  # noqa: PLC0415

    source, target = parse_reference(arguments.source), parse_reference(arguments.target)
    access = _access(arguments)
    with watcher(quiet=arguments.quiet or arguments.json) as watching:
        done = copy(
            source,
            target,
            access,
            platform=_platform(arguments),
            referrers=arguments.referrers,
            watcher=watching,
        )
    report = {
        "reference": done.name,
        "digest": done.digest,
        "manifests": done.manifests,
        "moved_bytes": done.moved_bytes,
    }
    sentence = (
        f"copied {source} to {done.name}, {done.manifests} manifests,"
        f" {amount(done.moved_bytes)} moved"
    )
    _report(arguments, report, sentence)
    return 0


def _tags(_: Store, arguments: argparse.Namespace) -> int:
    from runtime.image.registry.access import Session  # noqa: PLC0415

    reference = parse_reference(arguments.name)
    if arguments.referrers and reference.digest is None:
        raise RegistryError(f"{arguments.name!r} has no digest", remedy="write NAME@sha256:HEX")
    access = _access(arguments)
    with Session(access) as session:
        repository = session.repository(access.settings.place(reference))
        if arguments.referrers and reference.digest is not None:
            found = repository.referrers(reference.digest)
            listed: list[Any] = [descriptor.to_json() for descriptor in found]
            lines = [f"{each['digest']}  {each['mediaType']}" for each in listed]
        else:
            listed = lines = list(repository.tags())
    if arguments.json:
        _say(json.dumps(listed, indent=2))
    else:
        for line in lines:
            _say(printable(line))
    return 0


def _login(_: Store, arguments: argparse.Namespace) -> int:
    from runtime.image.registry.access import Session  # noqa: PLC0415
    from runtime.image.registry.credentials import Credential, Credentials, Only  # noqa: PLC0415
    from runtime.image.registry.places import Place, parse_registry  # noqa: PLC0415

    registry = parse_registry(arguments.registry)
    user, password = _asked_login(arguments)
    credential = Credential(user=user, password=password)
    access = dataclasses.replace(_access(arguments), credentials=Only(credential))
    place = Place(registry=registry, repository="", bases=access.settings.bases(registry))
    with Session(access) as session:
        session.endpoint(place).check_login()
    credentials = Credentials()
    helper = credentials.save(registry, credential)
    if helper is None:
        _warn(f"the password is kept as plain text in {credentials.path}, which only you can read")
    report = {"registry": registry, "user": user, "helper": helper}
    _report(arguments, report, f"logged in at {registry}")
    return 0


def _logout(_: Store, arguments: argparse.Namespace) -> int:
    from runtime.image.registry.credentials import Credentials  # noqa: PLC0415
    from runtime.image.registry.places import parse_registry  # noqa: PLC0415

    registry = parse_registry(arguments.registry)
    known = Credentials().forget(registry)
    _say(f"logged out of {registry}" if known else f"there was no login for {registry}")
    return 0


def _access(arguments: argparse.Namespace) -> "Access":
    from runtime.image.registry.access import Access  # noqa: PLC0415
    from runtime.image.registry.places import read_settings  # noqa: PLC0415

    settings = read_settings(plain_http=arguments.plain_http)
    return Access(settings=settings, authorities=arguments.ca)


def _platform(arguments: argparse.Namespace) -> "Platform | None":
    from runtime.image.registry.choice import parse_platform  # noqa: PLC0415

    return None if arguments.platform is None else parse_platform(arguments.platform)


def _asked_login(arguments: argparse.Namespace) -> tuple[str, str]:
    """User and password, from the options or the terminal. Raises RegistryError."""
    import getpass  # noqa: PLC0415

    terminal = sys.stdin is not None and sys.stdin.isatty()
    user = arguments.username
    if user is None and terminal and not arguments.password_stdin:
        user = input("user: ")
    if not user:
        raise RegistryError("there is nobody to log in", remedy="give --username")
    if arguments.password_stdin:
        password = sys.stdin.read(MAX_PASSWORD_BYTES).rstrip("\r\n")
    elif terminal:
        password = getpass.getpass("password: ")
    else:
        raise RegistryError("there is no terminal to ask on", remedy="use --password-stdin")
    if not password or ":" in user:
        what = "the password is empty" if not password else "a user's name has no ':'"
        raise RegistryError(what)
    return user, password


def _report(arguments: argparse.Namespace, report: dict[str, Any], sentence: str) -> None:
    if arguments.json:
        _say(json.dumps(report, indent=2))
    elif getattr(arguments, "quiet", False):
        _say(report["digest"])
    else:
        _say(sentence)
        if "digest" in report:
            _say(report["digest"])


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _warn(sentence: str) -> None:
    sys.stderr.write(f"isoscope: {sentence}\n")
