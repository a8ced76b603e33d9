"""Daemons of libvirt's for tests, each with directories and a socket of its own.

The computer's daemon knows its directories by fixed names, so it is started in a mount namespace
in which these are others. Like a computer's init, its parent reaps what it leaves behind: libvirt
polls a dead QEMU until somebody does.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vmbackend.account import emulator_account
from vmbackend.cache import vm_cache

_ROOT = Path(__file__).parents[1]
_LIMIT_S = 20.0
_PLACES = {
    "run": "/run/libvirt", "lib": "/var/lib/libvirt", "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt", "etc": "/etc/libvirt",
}  # fmt: skip
_CONFIGURATION = 'stdio_handler = "file"\nsecurity_driver = [ ]\ncgroup_controllers = [ ]\n'
_INIT = """
import os, sys
from vmbackend.syscalls import set_child_subreaper
set_child_subreaper()
os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""
_MOVE = """
set -e
for place in {places}; do
    mount --bind "$1/${{place%%:*}}" "${{place#*:}}"
done
exec libvirtd --pid-file "$1/pid" --config "$1/libvirtd.conf"
"""


def missing() -> str | None:
    """Why no daemon can be started here; None if one can."""
    if shutil.which("libvirtd") is None:
        return "no libvirtd here: apt-get install libvirt-daemon"
    return None


class Daemon:
    """A libvirtd that listens at *socket*."""

    def __init__(self, words: Sequence[str], directory: Path, listens_at: Path) -> None:
        self.socket = listens_at
        self._pid = directory / "pid"
        self._words = words
        self._init: list[subprocess.Popen[bytes]] = []

    def start(self, environment: dict[str, str] | None = None) -> None:
        """Return when it answers."""
        self.socket.unlink(missing_ok=True)
        own = {} if environment is None else environment
        words = [sys.executable, "-c", _INIT, *self._words]
        kept = os.environ | own | {"PYTHONPATH": str(_ROOT)}
        self._init.append(
            subprocess.Popen(
                words, env=kept, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
        deadline = time.monotonic() + _LIMIT_S
        while not _answers(self.socket):
            assert time.monotonic() < deadline, "libvirtd does not listen"
            assert self._init[-1].poll() is None, "libvirtd ended"
            time.sleep(0.02)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the daemon; machines that it had stay."""
        pid = int(self._pid.read_text())
        process = os.pidfd_open(pid)
        signal.pidfd_send_signal(process, number)
        os.close(process)
        with suppress(FileNotFoundError):
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.01)

    def close(self) -> None:
        """End it, and wait until its machines have ended and are reaped."""
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            self.kill(signal.SIGTERM)
        for init in self._init:
            init.wait(_LIMIT_S)


@contextmanager
def system(directory: Path) -> Iterator[Daemon]:
    """The computer's daemon, as root, set up as the distribution does."""
    made = [Path(there) for there in _PLACES.values() if not Path(there).exists()]
    for name, there in _PLACES.items():
        (directory / name).mkdir()
        Path(there).mkdir(parents=True, exist_ok=True)
    account = emulator_account()
    assert account is not None
    runs_as = f'user = "+{account.uid}"\ngroup = "+{account.started_as}"\n'
    (directory / "etc" / "qemu.conf").write_text(_CONFIGURATION + runs_as)
    (directory / "libvirtd.conf").write_text("")
    _share_capabilities(directory / "cache")
    places = " ".join(f"{name}:{there}" for name, there in _PLACES.items())
    script = _MOVE.format(places=places)
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    daemon = Daemon([*words, str(directory)], directory, directory / "run" / "libvirt-sock")
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.close()
        for path in made:
            with suppress(OSError):  # another's, by now
                path.rmdir()


@contextmanager
def session(directory: Path, user: str, environment: dict[str, str]) -> Iterator[Daemon]:
    """The daemon of *user*, which libvirt would start by itself and leave for two minutes."""
    configuration = Path(environment["XDG_CONFIG_HOME"], "libvirt")
    configuration.mkdir(parents=True)
    (configuration / "qemu.conf").write_text('stdio_handler = "file"\n')
    for path in (configuration.parent, configuration, configuration / "qemu.conf"):
        shutil.chown(path, user)
    pid = directory / "pid"
    words = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "libvirtd"]
    listens_at = Path(environment["XDG_RUNTIME_DIR"], "libvirt", "libvirt-sock")
    daemon = Daemon([*words, "--pid-file", str(pid)], directory, listens_at)
    try:
        daemon.start(environment)
        yield daemon
    finally:
        daemon.close()


def _share_capabilities(cache: Path) -> None:
    """What libvirt found out about QEMU already, which takes it seconds."""
    known = vm_cache("libvirt") / "qemu"
    if known.is_dir():
        shutil.copytree(known, cache / "qemu")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        return line.connect_ex(str(path)) == 0
