"""The way out for containers of an ordinary user: slirp4netns(1) relays between them and the host.

An ordinary user may change nothing of the machine's network, but may open sockets. The program
slirp4netns plays the other end of the container's interface and does what it sees there with
sockets of its own; a published port is a socket of it on the host. Names are resolved by it as on
the host, and what is on the host's loopback stays out of reach. It ends when we do, whatever
ended us: its ``--exit-fd`` is a pipe that we hold, or whom we give it to.
"""

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import NoReturn

from runtime import syscalls
from runtime.errors import RuntimeFault, Unsupported
from runtime.network.attachment import Attachment, own_files
from runtime.network.ports import Port, check_apart, reserved
from runtime.waiting import readable

_PROGRAM = "slirp4netns"
_API, _PID = "slirp", "slirp.pid"
_LIMIT_S = 15.0
_ADDRESS, _RESOLVER = IPv4Address("10.0.2.100"), IPv4Address("10.0.2.3")
"""What the program gives, always: each container is alone on a network of its own."""
_MTU = 65520
_MOST_SAID = 1 << 16


@contextmanager
def relayed(directory: Path, hostname: str, ports: Sequence[Port] = ()) -> Iterator[Attachment]:
    """A network namespace that reaches out through slirp4netns, as long as the block lasts.

    *directory* is the instance's own; the files it is to see in /etc are written there. Raises
    Unsupported without the program, RuntimeFault for a port that is taken.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise Unsupported(
            f"an ordinary user's containers reach the network by {_PROGRAM}, which is not here",
            remedy=f"apt-get install {_PROGRAM}, or use --network host or none",
        )
    check_apart(ports)
    _check_answered(ports)
    _wait_for_the_last(directory)
    with ExitStack() as undo:
        with reserved(ports) as own_ports:
            pass  # the relay binds them itself, so they are free again for a moment
        namespace = _namespace()
        undo.callback(os.close, namespace)
        api = directory / _API
        lifeline, keep = undo.enter_context(_running(program, namespace, api))
        for port in own_ports:
            _publish(api, port)
        yield Attachment(
            namespace=f"/proc/{os.getpid()}/fd/{namespace}",
            address=_ADDRESS,
            ports=own_ports,
            files=own_files(directory, hostname, _ADDRESS, _RESOLVER),
            lifeline=lifeline,
            keep=keep,
        )


def _wait_for_the_last(directory: Path) -> None:
    """A relay of this container's last start ends with it, but perhaps only now."""
    with suppress(FileNotFoundError, ProcessLookupError):
        pid = int((directory / _PID).read_text())
        relay = os.pidfd_open(pid)
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == _PROGRAM:
                readable(relay, timeout_s=_LIMIT_S)
        finally:
            os.close(relay)
    (directory / _API).unlink(missing_ok=True)


def _check_answered(ports: Sequence[Port]) -> None:
    """What keeps a container from the host's loopback also keeps datagrams from going back there.

    (libslirp takes an answer to its alias of 127.0.0.1 for an attempt to reach that.)
    """
    for port in ports:
        if port.protocol == "udp" and IPv4Address(port.ip).is_loopback:
            raise Unsupported(
                f"a UDP port of {port.ip} cannot be published by an ordinary user",
                remedy=f"publish it on every address: -p {port.host}:{port.inside}/udp",
            )


def request(port: Port) -> bytes:
    """What opens *port*, as the program's API takes it (slirp4netns(1), API SOCKET). Pure."""
    arguments = {
        "proto": port.protocol, "host_addr": port.ip, "host_port": port.host,
        "guest_addr": str(_ADDRESS), "guest_port": port.inside,
    }  # fmt: skip
    return json.dumps({"execute": "add_hostfwd", "arguments": arguments}).encode()


def _publish(api: Path, port: Port) -> None:
    """Raises RuntimeFault."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as line:
        line.settimeout(_LIMIT_S)
        try:
            folder = os.open(api.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:  # a short name for it: those of sockets end at 108 bytes
                line.connect(f"/proc/self/fd/{folder}/{api.name}")
            finally:
                os.close(folder)
            line.sendall(request(port))
            line.shutdown(socket.SHUT_WR)
            said = json.loads(line.recv(_MOST_SAID))
        except (OSError, ValueError) as error:
            raise RuntimeFault(f"port {port} cannot be published: {error}") from error
    if "return" not in said:
        why = said.get("error", {}).get("desc", "no reason given")
        raise RuntimeFault(f"port {port} cannot be published: {why}")


def _namespace() -> int:
    """A descriptor of a new network namespace; a child makes it, for we could not come back."""
    made, told = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _make(told, parent)
    os.close(told)
    try:
        if os.read(made, 1) != b"M":
            raise RuntimeFault("no network namespace could be made")
        return os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(made)
        os.kill(child, signal.SIGKILL)  # not reaped yet, so the number is still its own
        os.waitpid(child, 0)


def _make(told: int, parent: int) -> NoReturn:
    try:
        _die_with(parent)
        syscalls.unshare(syscalls.CLONE_NEWNET)
        os.write(told, b"M")
        signal.pause()
    finally:
        os._exit(1)


@contextmanager
def _running(
    program: str, namespace: int, api: Path
) -> Iterator[tuple[int, Callable[[], object]]]:
    """The relay, once it has configured *namespace*; ended when the block is left.

    What it ends with, and what makes it go on as long as others hold that.
    """
    with ExitStack() as undo:
        alive, held = os.pipe2(os.O_CLOEXEC)  # it ends when we close, or lose, the second
        ready, told = os.pipe2(os.O_CLOEXEC)
        said, saying = os.pipe2(os.O_CLOEXEC)
        undo.callback(os.close, ready)
        undo.callback(os.close, said)
        words = (
            program, "--configure", f"--mtu={_MTU}", "--disable-host-loopback",
            "--enable-seccomp", f"--ready-fd={told}", f"--exit-fd={alive}",
            f"--api-socket={api}", "--netns-type=path", f"/proc/self/fd/{namespace}", "eth0",
        )  # fmt: skip
        pid = _spawn(words, keep=(namespace, told, alive), stderr=saying)
        for theirs in (alive, told, saying):
            os.close(theirs)
        waiting = undo.enter_context(ExitStack())
        waiting.callback(os.waitpid, pid, 0)
        undo.callback(os.close, held)
        api.with_name(_PID).write_text(str(pid))
        if not readable(ready, timeout_s=_LIMIT_S) or not os.read(ready, 1):
            raise RuntimeFault(f"{_PROGRAM} did not connect the container: {_why(pid, said)}")
        yield held, waiting.pop_all


def _spawn(words: tuple[str, ...], *, keep: Sequence[int], stderr: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()  # Ctrl-C is ours to handle
            null = os.open(os.devnull, os.O_RDWR)
            for number, fd in ((0, null), (1, null), (2, stderr)):
                os.dup2(fd, number)
            for fd in keep:
                os.set_inheritable(fd, True)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execv(words[0], words)  # noqa: S606 - no shell is wanted
        finally:
            os._exit(127)
    return pid


def _die_with(parent: int) -> None:
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _why(pid: int, said: int) -> str:
    """What it said last, once it can say no more."""
    os.kill(pid, signal.SIGKILL)
    lines = os.read(said, _MOST_SAID).decode(errors="replace").strip().splitlines()
    return ascii(lines[-1])[1:-1] if lines else f"no answer in {_LIMIT_S:g} s"
