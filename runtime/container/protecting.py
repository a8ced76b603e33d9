"""The options of ``run`` by which a container is locked in less, or more: docker's words."""

import argparse
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import replace

from runtime.commandline import reading
from runtime.container.capabilities import CAPABILITIES, chosen, parse_capability
from runtime.container.container import Options
from runtime.container.devices import Device, find_device, host_devices
from runtime.container.profile import MOST_BYTES, Machine, read_profile
from runtime.container.protection import Protection
from runtime.container.ulimits import parse_ulimit
from runtime.errors import SpecError
from runtime.user_namespace import owned_ids

_UNCONFINED, _BUILTIN = "unconfined", "builtin"


def add_options(group: argparse._ArgumentGroup) -> None:
    """Add them to *group*."""
    add = group.add_argument
    add("--privileged", action="store_true", help="every capability and device: no protection")
    add("--cap-add", action="append", default=[], type=reading(parse_capability),
        metavar="NAME", help="a capability more, such as NET_ADMIN, or ALL")  # fmt: skip
    add("--cap-drop", action="append", default=[], type=reading(parse_capability),
        metavar="NAME", help="a capability less, or ALL")  # fmt: skip
    add("--security-opt", action="append", default=[], type=reading(_parse_security),
        metavar="seccomp=FILE", help="a profile of system calls, or unconfined")  # fmt: skip
    add("--read-only", action="store_true", help="the image's files cannot be changed")
    add("--ulimit", action="append", default=[], type=reading(parse_ulimit),
        metavar="NAME=SOFT[:HARD]", help="of each process, such as nofile=1024")  # fmt: skip
    add("--device", action="append", default=[], metavar="HOST[:PATH][:rwm]",
        help="a device file of this machine")  # fmt: skip


def protected(options: Options, arguments: argparse.Namespace) -> Options:
    """*options* with what the options of ``add_options`` come to. Raises SpecError."""
    if arguments.privileged:
        kept = chosen((), arguments.cap_drop, start=CAPABILITIES)
    else:
        kept = chosen(arguments.cap_add, arguments.cap_drop)
    seccomp = next(filter(None, reversed(arguments.security_opt)), _BUILTIN)
    has_file = seccomp not in {_UNCONFINED, _BUILTIN}
    protection = Protection(
        capabilities=kept,
        profile=_profile(seccomp, kept) if has_file else b"",
        is_privileged=arguments.privileged,
        read_only=arguments.read_only,
        devices=tuple(_devices(arguments)),
        ulimits=tuple(arguments.ulimit),
    )
    return replace(options, protection=protection, seccomp=seccomp != _UNCONFINED)


def _devices(arguments: argparse.Namespace) -> Iterator[Device]:
    asked = [find_device(text) for text in arguments.device]
    yield from asked
    if arguments.privileged and owned_ids() is None:
        places = {device.path for device in asked}
        yield from (device for device in host_devices() if device.path not in places)


def _parse_security(text: str) -> str:
    """The value of ``seccomp=``; nothing where that is not meant. Raises SpecError."""
    name, equals, value = text.partition("=")
    if name == "no-new-privileges" and value in {"", "true"}:
        return ""  # it is always so
    if name != "seccomp" or not equals or not value:
        raise SpecError(
            f"{text[:80]!r} is no protection that can be chosen",
            remedy="write seccomp=FILE or seccomp=unconfined",
        )
    return value


def _profile(path: str, kept: frozenset[str]) -> bytes:
    """The profile in the file *path*, compiled. Raises SpecError."""
    try:
        # Not to wait for a writer, should it be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SpecError(
            f"cannot read the profile {path!r}: {error.strerror}", remedy="name a file"
        ) from None
    except ValueError:
        raise SpecError(f"{path!r} holds a NUL character", remedy="remove it") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SpecError(f"the profile {path!r} is no file", remedy="name a file")
        raw = os.read(descriptor, MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(raw) > MOST_BYTES:
        raise SpecError(f"the profile {path!r} is larger than {MOST_BYTES} bytes")
    here = os.uname()
    version = [int(number) for number in re.findall(r"[0-9]+", here.release)[:2]]
    machine = Machine(name=here.machine, kernel=(version[0], version[1]), capabilities=kept)
    return read_profile(raw, path, machine)
