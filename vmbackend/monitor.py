"""QEMU's monitor, spoken to directly: a JSON object a line (QEMU's docs/interop/qmp-spec.txt)."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vmbackend.account import give_to_emulator
from vmbackend.errors import EngineError

_LONGEST_LINE_BYTES = 1 << 20


class Monitor:
    """Commands and their answers, one at a time; events pass unheard."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._stream = line.makefile("rb")
        self._read()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:
        """What *command* returns. Raises EngineError if QEMU refuses it or is silent."""
        self._line.sendall(_request(command, arguments))
        return self._answer(command)

    def give(self, descriptor: int, name: str) -> None:
        """Hand QEMU an open file, which it knows by *name* from then on. Raises EngineError."""
        socket.send_fds(self._line, [_request("getfd", {"fdname": name})], [descriptor])
        self._answer("getfd")

    def _answer(self, command: str) -> Any:
        while True:
            answer = self._read()
            if "error" in answer:
                raise EngineError(f"QEMU refused {command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline(_LONGEST_LINE_BYTES)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EngineError("QEMU's monitor says what is no answer")
        return answer


def _request(command: str, arguments: Mapping[str, object]) -> bytes:
    request = {"execute": command} | ({"arguments": arguments} if arguments else {})
    return json.dumps(request).encode() + b"\n"


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket at *path* for QEMU to connect its monitor to; its name is removed at the end."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            give_to_emulator(path)
            path.chmod(0o600)
            listener.listen(1)
            yield listener
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def accepted(listener: socket.socket, *, timeout_s: float) -> Iterator[Monitor]:
    """The monitor that connects to *listener*. Raises EngineError if it is late or silent."""
    listener.settimeout(timeout_s)
    try:
        line, _ = listener.accept()
        with line:
            line.settimeout(timeout_s)
            yield Monitor(line)
    except OSError as error:
        raise EngineError(f"QEMU's monitor does not answer: {error}") from error
