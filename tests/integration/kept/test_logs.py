"""What containers say is kept: whole, in order, with its time, whatever happens meanwhile."""

import os
import resource
import subprocess
from collections.abc import Iterator

import pytest
from kept_containers import LIMIT_S, argv, leaving_nothing, ok, until

from runtime.container.container import Options
from runtime.container.kept import logs
from runtime.container.kept.kept import Kept
from runtime.image import Image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")
LINES = "i=0; while [ $i -lt 300 ]; do echo out$i; echo err$i >&2; i=$((i+1)); done"


@pytest.fixture(autouse=True)
def nothing_left(busybox: Image) -> Iterator[None]:
    assert busybox.digest
    with leaving_nothing():
        yield


def said(image: Image, script: str) -> Kept:
    kept, _ = Kept.run(image, ("sh", "-c", script), Options())
    kept.wait()
    return kept


def test_streams_are_apart_and_in_order(busybox: Image) -> None:
    with said(busybox, LINES) as kept:
        pieces = list(logs.pieces(kept.frames()))
        for stream, word in ((logs.STDOUT, "out"), (logs.STDERR, "err")):
            text = b"".join(each.data for each in pieces if each.stream == stream)
            assert text.decode().split() == [f"{word}{i}" for i in range(300)]
        assert [each.at_ns for each in pieces] == sorted(each.at_ns for each in pieces)


def test_the_last_of_it_with_its_time(busybox: Image) -> None:
    with said(busybox, "echo one; echo two; printf thr; sleep 0.1; echo ee") as kept:
        assert ok("logs", "-n", "2", kept.id) == "two\nthree\n"
        stamped = ok("logs", "-t", kept.id).splitlines()
        assert [line[10] + line[29:] for line in stamped] == ["TZ one", "TZ two", "TZ three"]
        assert ok("logs", "--since", "2038-01-01", kept.id) == ""


def test_much_is_kept_whole_over_two_files(busybox: Image) -> None:
    count = 36 << 20
    with said(busybox, f"yes 0123456789abcde | head -c {count}") as kept:
        assert (kept.directory / logs.OLDER).stat().st_size > 32 << 20
        frames = [each for each in kept.frames() if each.stream == logs.STDOUT]
        assert sum(len(each.data) for each in frames) == count
        assert b"".join(each.data for each in frames[:3]).startswith(b"0123456789abcde\n" * 9)


def test_followed_to_the_end(busybox: Image) -> None:
    gate = "mkfifo /fifo; echo begun; read -r x < /fifo; echo $x; exit 3"
    kept, _ = Kept.run(busybox, ("sh", "-c", gate), Options())
    with (
        kept,
        subprocess.Popen(argv("logs", "-f", kept.id), stdout=subprocess.PIPE, text=True) as reader,
    ):
        assert reader.stdout is not None
        assert reader.stdout.readline() == "begun\n"
        kept.exec(["sh", "-c", "echo on > /fifo"], timeout_s=LIMIT_S)
        assert reader.stdout.readline() == "on\n"
        assert reader.wait(LIMIT_S) == 0


def test_a_torn_frame_is_cut_off_before_the_next_start(busybox: Image) -> None:
    with said(busybox, "echo first") as kept:
        with (kept.directory / logs.FILE).open("ab") as file:
            file.write(b"\1\0\0\0")
        assert [each.data for each in logs.pieces(kept.frames())] == [b"first\n"]
        kept.start()
        kept.wait()
        assert [each.data for each in logs.pieces(kept.frames())] == [b"first\n"] * 2


def test_a_full_disk_costs_words_and_says_how_many(busybox: Image) -> None:
    """The limit of a file's size is refused as a full disk is, half way through a frame."""
    gate = "mkfifo /g; read -r x < /g; yes 0123456789abcde | head -c 40000; cat /g"
    kept, _ = Kept.run(busybox, ("sh", "-c", gate), Options())
    with kept:
        (writer,) = until(lambda: writers(kept.id))
        resource.prlimit(writer, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        until(lambda: not kept.exec(["sh", "-c", "echo > /g"], timeout_s=LIMIT_S).exit_status)
        until(lambda: (kept.directory / logs.FILE).stat().st_size > 0)
        resource.prlimit(writer, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        kept.exec(["sh", "-c", "echo end > /g"], timeout_s=LIMIT_S)
        assert kept.wait() == 0
        found = list(kept.frames())
        lost = sum(int.from_bytes(f.data, "little") for f in found if f.stream == logs.LOST)
        heard = sum(len(f.data) for f in found if f.stream == logs.STDOUT)
        assert lost > 0
        assert lost + heard == 40_000 + len(b"end\n")
        assert b"bytes were lost" in b"".join(each.data for each in logs.pieces(found))


def writers(container: str) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - numbers, no paths
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:  # noqa: PTH123
                    command = file.read()
            except OSError:
                continue
            if command.startswith(b"isoscope-log") and container.encode() in command:
                found.append(int(entry))
    return found
