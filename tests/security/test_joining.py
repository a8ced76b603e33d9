"""What a container can do to us while we start it, enter it, and take it down."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from attempts import Run

from runtime import syscalls
from runtime.container.attachments import Wishes
from runtime.container.container import Container, Options, container
from runtime.container.protection import Protection
from runtime.container.spec import Limits
from runtime.errors import StepError, SyscallError
from runtime.image import Image
from runtime.volume.mount import MountRequest

LIMIT_S = 60.0
_FLIP = """
import ctypes, sys
exchange = ctypes.CDLL(None).renameat2
one, other = map(str.encode, sys.argv[1:])
while True:
    exchange(-100, one, -100, other, 2)
"""
OURS = ("memfd:isoscope", "memfd:plan", "python")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root; run as root")


@contextmanager
def idle(image: Image, tool: MountRequest, **options: object) -> Iterator[Container]:
    """A container that waits, with /t in it."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        chosen = Options(attached=Wishes(mounts=(tool,)), **options)  # type: ignore[arg-type]
        with container(image, (), chosen, stdio=(null, null, null)) as running:
            yield running
    finally:
        os.close(null)


def test_who_watches_sees_no_descriptor_and_no_program_of_ours(
    busybox: Image, tool: MountRequest
) -> None:
    """CVE-2019-5736, CVE-2024-21626: a joiner is seen from inside before it is what it becomes."""
    with idle(busybox, tool, limits=Limits(pids=64)) as running:
        watch = "/t/attempt watch=/tmp/seen >/dev/null 2>&1 & echo $!"
        running.run(["sh", "-c", watch], timeout_s=LIMIT_S)
        for _ in range(30):
            running.run(["/bin/true"], timeout_s=LIMIT_S)
        running.run(["sh", "-c", "touch /tmp/stop"], timeout_s=LIMIT_S)
        seen = running.run(
            ["sh", "-c", "while [ ! -e /tmp/seen.done ]; do usleep 1000; done; cat /tmp/seen"],
            timeout_s=LIMIT_S,
        ).stdout.decode()
    lines = set(seen.splitlines())
    programs = {line.split(" ", 1)[1] for line in lines if line.startswith("exe ")}
    assert "/bin/busybox" in programs, "nothing was seen: the watch did not run"
    assert programs <= {"/bin/busybox", "/memfd:start (deleted)", "/t/attempt"}
    assert not [line for line in lines if line.startswith("wrote ")]
    places = {line.split(" ", 1)[1] for line in lines if line.startswith(("cwd ", "root "))}
    assert places <= {"/"}
    files = {line.split(" ", 1)[1] for line in lines if line.startswith("fd ")}
    assert not [each for each in files if any(ours in each for ours in OURS)]
    assert not [each for each in files if each.startswith("/") and not each.startswith(
        ("/dev/null", "/proc", "/tmp", "/bin", "/t", "/memfd:start")
    )]  # fmt: skip


def test_the_program_that_runs_first_cannot_be_written(busybox: Image, tool: MountRequest) -> None:
    with idle(busybox, tool) as running:
        script = "readlink /proc/1/exe; echo x > /proc/1/exe || /t/attempt write=/proc/1/exe"
        done = running.run(["sh", "-c", script], timeout_s=LIMIT_S)
    assert done.stdout.decode().splitlines()[-1] in {
        "write=/proc/1/exe ETXTBSY", "write=/proc/1/exe EPERM",
    }  # fmt: skip


def test_a_working_directory_that_became_a_link_leads_nowhere_else(
    busybox: Image, tool: MountRequest
) -> None:
    """CVE-2024-21626: the joiner's descriptors are named by a directory that the image chose."""
    with idle(busybox, tool, cwd="/work") as running:
        work = Path(f"/proc/{running.pid}/root/work")
        for number in (*range(3, 12), 100, 101):
            work.unlink() if work.is_symlink() else work.rmdir()
            work.symlink_to(f"/proc/self/fd/{number}")
            with pytest.raises(StepError, match="chdir"):
                running.run(["/bin/ls"], timeout_s=LIMIT_S)


def test_the_keys_of_the_caller_are_not_found_even_without_a_filter(
    run: Run, tool: MountRequest
) -> None:
    def here(word: str) -> str:
        tried = [f"{tool.source}/attempt", f"{word}=isoscope-{os.getpid()}"]
        return subprocess.run(tried, capture_output=True, text=True, check=True).stdout.split()[-1]

    try:
        syscalls.keyctl(syscalls.KEYCTL_JOIN_SESSION_KEYRING, 0)  # what is put there goes with us
    except SyscallError as error:
        pytest.skip(f"no key can be kept here: {error}")
    assert here("put-key") == "done"
    try:
        assert here("find-key") == "done"
        done = run(["/t/attempt", f"find-key=isoscope-{os.getpid()}"], seccomp=False)
        assert done.stdout.split()[-1] == b"ENOKEY"
    finally:
        assert here("drop-key") == "done"


def test_a_read_only_root_is_read_only_for_joiners_too(busybox: Image, tool: MountRequest) -> None:
    with idle(busybox, tool, protection=Protection(read_only=True)) as running:
        done = running.run(["sh", "-c", "echo x > /file"], timeout_s=LIMIT_S)
        assert b"Read-only" in done.stderr
        assert running.run(["mount", "-o", "remount,rw", "/"], timeout_s=LIMIT_S).exit_status != 0


def test_links_of_the_image_move_no_mount_out(run: Run, tmp_path: Path) -> None:
    """CVE-2021-30465: what is mounted on a link lands in the container, and below its masks."""
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "up").symlink_to("/../../../../../../tmp")
    (trap / "kernel").symlink_to("/proc")
    before = Path("/proc/self/mountinfo").read_text()
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "found").touch()

    def mounts(target: str) -> tuple[MountRequest, ...]:
        return (
            MountRequest(kind="bind", target="/trap", source=str(trap)),
            MountRequest(kind="bind", target=target, source=str(canary)),
        )

    shown = run(["sh", "-c", "ls /tmp; ls /trap"], mounts=mounts("/trap/up")).stdout.split()
    assert shown == [b"found", b"kernel", b"up"]
    masked = run(
        ["sh", "-c", "ls /proc/found; cat /proc/keys; head -c 5 /proc/version"],
        mounts=mounts("/trap/kernel"),
    )
    assert masked.stdout == b"Linux"
    assert Path("/proc/self/mountinfo").read_text() == before
    assert not Path("/tmp/found").exists()


def test_a_link_that_comes_and_goes_moves_no_mount_out(run: Run, tmp_path: Path) -> None:
    """CVE-2021-30465: the place changes between a directory and a link while it is mounted on."""
    trap, canary = tmp_path / "trap", tmp_path / "canary"
    (trap / "place").mkdir(parents=True)
    (trap / "other").symlink_to("/../../../../etc")
    canary.mkdir()
    (canary / "found").touch()
    before = Path("/proc/self/mountinfo").read_text()
    mounts = (
        MountRequest(kind="bind", target="/trap", source=str(trap)),
        MountRequest(kind="bind", target="/trap/place", source=str(canary)),
    )
    names = (str(trap / "place"), str(trap / "other"))
    with subprocess.Popen([sys.executable, "-c", _FLIP, *names]) as racer:
        try:
            for _ in range(12):
                with suppress(StepError):  # caught in the midst of a change
                    done = run(["sh", "-c", "ls /etc; cat /proc/keys"], mounts=mounts)
                    assert done.exit_status == 0
        finally:
            racer.kill()
    assert Path("/proc/self/mountinfo").read_text() == before
    assert not Path("/etc/found").exists()


def test_a_memory_bomb_ends_alone(run: Run) -> None:
    done = run(
        ["sh", "-c", "head -c 200m /dev/zero | tail -c 190m | wc -c; echo after"],
        limits=Limits(memory_bytes=24 << 20),
    )
    assert done.exit_status in {0, 137}
    assert b"199229440" not in done.stdout


def test_many_descriptors_are_bounded_by_what_was_given(run: Run) -> None:
    from runtime.container.ulimits import parse_ulimit

    limited = Protection(ulimits=(parse_ulimit("nofile=16:32"), parse_ulimit("fsize=1048576")))
    script = "ulimit -n; ulimit -Hn; ulimit -n 33 || echo kept; head -c 2m /dev/zero > /tmp/big"
    done = run(["sh", "-c", script], protection=limited)
    assert done.stdout.split() == [b"16", b"32", b"kept"]
