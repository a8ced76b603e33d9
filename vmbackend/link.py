"""The two sockets between us and one machine, served by one thread with the host's clock.

They listen before QEMU exists and QEMU connects: the console first, which also tells QEMU's pid
without asking libvirt (SO_PEERCRED, unix(7)). Marks are CLOCK_MONOTONIC ns, taken when the bytes
are read. Requests may be queued from the start; they are sent once the guest has said HELLO, which
one that is *resumed* says again when it is told the time.
"""

import os
import re
import select
import selectors
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from vmbackend.account import give_to_emulator
from vmbackend.channel import (
    Decoder,
    Frame,
    Kind,
    Request,
    clock_frame,
    encode,
    hello_boottime_ns,
    kill_frame,
    memory_bytes,
    number,
    run_frame,
    share_frame,
)
from vmbackend.command import Command, OutputSink
from vmbackend.errors import GuestError
from vmbackend.syscalls import pidfd_getfd

CONSOLE_KEPT_BYTES = 64 << 10
_READ_BYTES = 256 << 10
_SEED_BYTES = 32
_INIT_LINE = re.compile(rb"isoscope: init (\d{1,19})\r?\n")
_SINK_RETURNS_WITHIN_S = 1.0


class Link:
    """What has been heard of a machine, and the way to speak to it; listens while entered."""

    def __init__(self, console_socket: Path, port_socket: Path, *, resumed: bool = False) -> None:
        self.console_socket = console_socket
        self.port_socket = port_socket
        self.marks_ns: dict[str, int] = {}
        self._begun_ns = time.monotonic_ns()
        self.ready = threading.Event()
        self.emulator_pid: int | None = None
        self.failure: Exception | None = None
        self._told = threading.Event()
        self._memory: Mapping[str, int] | None = None
        self._emulator: int | None = None  # a pidfd, ours until close
        self._commands: dict[int, Command] = {}
        self._console = bytearray()
        self._decoder = Decoder()
        self._outgoing = bytearray()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._port: socket.socket | None = None
        self._resumed = resumed
        self._released = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._serve, name="machine-link", daemon=True)
        self._enqueue([_seed()] if not resumed else [])

    def __enter__(self) -> Self:
        """Listen, and start the thread."""
        self._selector.register(self._wake, selectors.EVENT_READ, self._woken)
        try:
            self._listen(self.console_socket, self._accept_console)
            self._listen(self.port_socket, self._accept_port)
        except OSError:
            self._release()
            raise
        self._thread.start()
        return self

    def run(self, request: Request, stdin: bytes | None, sink: OutputSink | None) -> Command:
        """Ask for a command; *stdin* None: it stays open for ``feed``."""
        with self._lock:
            command = Command(id=len(self._commands) + 1, sink=sink)
            command.stdin += stdin or b""
            command.stdin_closing = stdin is not None
            self._commands[command.id] = command
            frames = [run_frame(command.id, request), *command.stdin_frames()]
            if self.failure is not None:
                command.room.set()
                command.ended.set()
        self._enqueue(frames)
        return command

    def share(self, tag: str, target: str) -> None:
        """Ask for the share *tag* at *target*; a guest that cannot mount it fails."""
        self._enqueue([share_frame(tag, target)])

    def memory(self, *, timeout_s: float) -> Mapping[str, int] | None:
        """What the guest says of its memory, now; None if it does not answer in time."""
        with self._lock:
            self._memory = None
            self._told.clear()
        self._enqueue([Frame(kind=Kind.MEMORY)])
        self._told.wait(timeout_s)
        return self._memory

    def feed(self, command: Command, data: bytes) -> None:
        """More standard input; none: end of file. Waits while the guest has no room for more."""
        command.room.wait()
        with self._lock:
            command.stdin += data
            command.stdin_closing = not data
            frames = command.stdin_frames()
        self._enqueue(frames)

    def signal(self, command: Command, number: int) -> None:
        """Send a signal to a command's process group."""
        self._enqueue([kill_frame(command.id, number)])

    def console_tail(self, lines: int = 50) -> str:
        """The last *lines* of the console."""
        with self._lock:
            text = self._console.decode(errors="replace")
        return "\n".join(text.replace("\r", "").splitlines()[-lines:])

    def kill_emulator(self) -> None:
        """End QEMU, if it has connected, and wait until it is gone and reaped.

        A libvirt that hears of the death while there is still a zombie sleeps for 200 ms before it
        looks again. It hears by the end of its line to QEMU's monitor: until the zombie is gone
        that is held open.
        """
        if self._emulator is None or self.emulator_pid is None:
            return
        with _held_lines(self.emulator_pid, self._emulator):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._emulator, signal.SIGKILL)
            try:
                os.waitpid(self.emulator_pid, 0)
            except ChildProcessError:  # reaped by the thread, or the child of libvirt's daemon
                death = select.poll()
                death.register(self._emulator, select.POLLIN)
                death.poll()

    def __exit__(self, *_: object) -> None:
        """Stop the thread, which closes what it serves; remove the sockets' names.

        A sink that blocks for ever cannot hold us: its thread ends when the sink returns.
        """
        self._closing.set()
        self._enqueue([])  # wakes it
        self._thread.join(_SINK_RETURNS_WITHIN_S)
        self.console_socket.unlink(missing_ok=True)
        self.port_socket.unlink(missing_ok=True)

    def fail(self, error: Exception) -> None:
        """Whoever waits for the machine is told *error*, which was seen elsewhere."""
        self._end(error)

    # -- the thread

    def _serve(self) -> None:
        try:
            while not self._closing.is_set():
                for key, events in self._selector.select():
                    key.data(key.fileobj, events)
        except Exception as error:  # noqa: BLE001 - whoever waits for the machine is told
            self._end(error)
        finally:
            self._closing.wait()  # until then the pidfd may be needed to kill
            self._release()

    def _listen(self, path: Path, accept: Callable[[socket.socket, int], None]) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._selector.register(listener, selectors.EVENT_READ, accept)
        listener.bind(str(path))
        give_to_emulator(path)
        path.chmod(0o600)
        listener.listen(1)

    def _accepted(
        self, listener: socket.socket, serve: Callable[[socket.socket, int], None]
    ) -> socket.socket:
        """The one connection a listener is for; the listener is closed."""
        connection, _ = listener.accept()
        connection.setblocking(False)
        self._selector.unregister(listener)
        listener.close()
        self._selector.register(connection, selectors.EVENT_READ, serve)
        return connection

    def _accept_console(self, listener: socket.socket, _events: int) -> None:
        self._mark("engine")
        connection = self._accepted(listener, self._read_console)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, _, _ = struct.unpack("3i", credentials)
        try:
            self._emulator = os.pidfd_open(pid)
        except ProcessLookupError:
            self._end(GuestError("QEMU ended as it began"))
            return
        self.emulator_pid = pid
        self._selector.register(self._emulator, selectors.EVENT_READ, self._emulator_died)

    def _accept_port(self, listener: socket.socket, _events: int) -> None:
        self._port = self._accepted(listener, self._serve_port)
        if self._resumed:  # a few bytes, for which a new socket has room
            clock = clock_frame(time.clock_gettime_ns(time.CLOCK_REALTIME))
            self._port.sendall(encode(_seed()) + encode(clock))

    def _read_console(self, connection: socket.socket, _events: int) -> None:
        data = _received(connection)
        now_ns = time.monotonic_ns()
        if not data:
            self._selector.unregister(connection)
            connection.close()
            return
        with self._lock:
            self._console += data
            if "init" not in self.marks_ns and (line := _INIT_LINE.search(self._console)):
                self.marks_ns["init"] = now_ns
                kernel_ns = now_ns - int(line[1])
                if kernel_ns >= self._begun_ns:  # else the guest's clock runs fast, or it lies
                    self.marks_ns["kernel"] = kernel_ns
            del self._console[:-CONSOLE_KEPT_BYTES]

    def _serve_port(self, connection: socket.socket, events: int) -> None:
        if events & selectors.EVENT_READ:
            data = _received(connection)
            if not data:
                self._selector.unregister(connection)
                connection.close()
                self._port = None
                self._end(GuestError("the machine ended before the command did"))
                return
            now_ns = time.monotonic_ns()
            for frame in self._decoder.feed(data):
                self._take(frame, now_ns)
        self._flush()

    def _take(self, frame: Frame, now_ns: int) -> None:
        if frame.kind is Kind.HELLO:
            hello_boottime_ns(frame)
            self.marks_ns["init.agent"] = now_ns
            self.ready.set()
        elif frame.kind is Kind.MEMINFO:
            self._memory = memory_bytes(frame)
            self._told.set()
        elif frame.kind is Kind.ERROR:
            raise GuestError(f"the guest refused: {frame.payload.decode(errors='replace')!r}")
        elif (command := self._commands.get(frame.command)) is None:
            raise GuestError(f"the guest speaks of command {frame.command}, which there is not")
        elif frame.kind is Kind.CREDIT:
            with self._lock:
                command.credit(number(frame))
                self._outgoing += b"".join(map(encode, command.stdin_frames()))
        else:
            command.take(frame, now_ns)  # not under the lock: a sink may block

    def _woken(self, wake: int, _events: int) -> None:
        os.eventfd_read(wake)
        self._flush()

    def _flush(self) -> None:
        """Send what the socket takes, and watch for room only while something is left.

        A guest that no longer listens is no news here: what it said last, or its end, is still to
        be read and tells why.
        """
        if self._port is None or not self.ready.is_set():
            return
        with self._lock:
            if self._outgoing:
                try:
                    del self._outgoing[: self._port.send(self._outgoing)]
                except BlockingIOError:
                    pass
                except (BrokenPipeError, ConnectionResetError):
                    self._outgoing.clear()
            left = selectors.EVENT_WRITE if self._outgoing else 0
        self._selector.modify(self._port, selectors.EVENT_READ | left, self._serve_port)

    def _emulator_died(self, pidfd: int, _events: int) -> None:
        self._selector.unregister(pidfd)
        self._reap()
        self._end(GuestError("the machine ended before the command did"))

    def _release(self) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        with self._lock:
            self._released = True
            for descriptor in (self._wake, self._emulator):
                if descriptor is not None:
                    os.close(descriptor)
            self._emulator = None

    # -- shared

    def _enqueue(self, frames: list[Frame]) -> None:
        with self._lock:
            self._outgoing += b"".join(map(encode, frames))
            if not self._released:  # else the number of the descriptor may be another's by now
                os.eventfd_write(self._wake, 1)

    def _mark(self, name: str) -> None:
        self.marks_ns[name] = time.monotonic_ns()

    def _end(self, error: Exception) -> None:
        """Nothing more will be heard: whoever waits is woken and finds *error*."""
        with self._lock:
            self.failure = self.failure or error
            commands = list(self._commands.values())
        self.ready.set()
        self._told.set()
        for command in commands:
            command.room.set()
            command.ended.set()

    def _reap(self) -> None:
        """QEMU is our orphan, so its zombie is ours; libvirt polls it until it is reaped."""
        if self.emulator_pid is not None:
            with suppress(ChildProcessError):
                os.waitpid(self.emulator_pid, os.WNOHANG)


@contextmanager
def _held_lines(pid: int, process: int) -> Iterator[None]:
    """Hold duplicates of the sockets of *process*; where that is not allowed, nothing is held."""
    with ExitStack() as held:
        with suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                if str(entry.readlink()).startswith("socket:"):
                    held.callback(os.close, pidfd_getfd(process, int(entry.name)))
        yield


def _seed() -> Frame:
    return Frame(kind=Kind.SEED, payload=os.urandom(_SEED_BYTES))


def _received(connection: socket.socket) -> bytes:
    """What is there; a reset is an end like any other: QEMU was killed."""
    try:
        return connection.recv(_READ_BYTES)
    except ConnectionResetError:
        return b""
