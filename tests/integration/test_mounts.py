"""Directories, volumes and memory that a container is given, seen from both sides."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime import syscalls
from runtime.container.state import instances_dir
from runtime.errors import RuntimeFault
from runtime.image import Image, state_dir
from runtime.volume import volumes
from runtime.volume.filling import fill

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root; run as root")
ROOT = Path(__file__).parent.parent.parent
LIMIT_S = 60.0


@pytest.fixture(autouse=True)
def nothing_left(busybox: Image) -> Iterator[None]:
    assert busybox.digest
    yield
    assert str(state_dir()) not in Path("/proc/self/mountinfo").read_text()
    assert not instances_dir().exists() or not list(instances_dir().iterdir())
    volumes.prune()
    assert [each.name for each in (state_dir() / "volumes").glob("*")] in ([], [".lock"])


def isoscope(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "isoscope.py"), *words],
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip


def inside(script: str, *options: str) -> str:
    done = isoscope("run", *options, "busybox", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*options: str) -> str:
    done = isoscope("run", *options, "busybox", "echo", "started")
    assert (done.returncode, done.stdout) == (125, "")
    (line,) = done.stderr.splitlines()
    return line


def test_a_directory_of_the_host_is_shared_both_ways(tmp_path: Path) -> None:
    (tmp_path / "from-host").write_text("host\n")
    assert inside("cat /d/from-host; echo inside > /d/back", "-v", f"{tmp_path}:/d") == "host\n"
    assert (tmp_path / "back").read_text() == "inside\n"


def test_read_only_holds_for_what_is_mounted_below_too(tmp_path: Path) -> None:
    """In a mount namespace of its own, so that the host never has the second mount."""
    (tmp_path / "below").mkdir()
    script = (
        'mount -t tmpfs none "$1/below" && exec "$2" "$3" run "$4" "$1:/d$5" busybox sh -c "$6"'
    )
    for option in ("", ":ro"):
        attempt = (
            "for f in /d/x /d/below/x; do echo x > $f && echo written; done 2>/dev/null; true"
        )
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable,
             str(ROOT / "isoscope.py"), "-v", option, attempt],
            capture_output=True, text=True, check=True, timeout=LIMIT_S,
        )  # fmt: skip
        assert done.stdout.count("written") == (0 if option else 2)


def test_nothing_mounted_inside_or_outside_travels(tmp_path: Path) -> None:
    said = inside("grep -E ' /d | /run ' /proc/self/mountinfo", "-v", f"{tmp_path}:/d",
                  "--tmpfs", "/run:size=1m,mode=700")  # fmt: skip
    assert len(said.splitlines()) == 2
    assert "shared:" not in said
    assert "master:" not in said
    assert "size=1024k,mode=700" in said
    assert "nosuid,nodev,noexec" in said


def test_a_file_is_mounted_on_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("file\n")
    assert inside("cat /new/place/f", "-v", f"{tmp_path}/f:/new/place/f:ro") == "file\n"
    assert f"{tmp_path}/f, a file, is seen here" in refused("-v", f"{tmp_path}/f:/bin")
    assert "a file stands where" in refused("-v", f"{tmp_path}:/bin/busybox")


def test_links_inside_lead_to_places_inside(tmp_path: Path) -> None:
    (tmp_path / "host-secret").mkdir()
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "out").symlink_to("../../../../../../etc")
    (tmp_path / "v" / "kernel").symlink_to("/proc")
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "passwd").write_text("covered\n")
    said = inside(
        "cat /etc/passwd; echo x > /proc/sys/kernel/core_pattern || ls /proc/sys/kernel | wc -l",
        "-v", f"{tmp_path}/v:/v", "-v", f"{tmp_path}/shown:/v/out",
        "-v", f"{tmp_path}/shown:/v/kernel",
    )  # fmt: skip
    first, count = said.splitlines()
    assert first == "covered"
    assert int(count) > 10  # what was mounted through the link lies below the real /proc
    assert Path("/etc/passwd").read_text() != "covered\n"


def test_devices_that_the_host_shows_are_dead(tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
    assert inside("cat /d/null 2>&1 || true", "-v", f"{tmp_path}:/d").endswith("denied\n")


def test_a_new_volume_begins_with_what_the_image_has(tmp_path: Path) -> None:
    count = "ls /bin | wc -l; ls -ld /bin; ls -l /bin/sh"
    plain = inside(count)
    first = inside(f"{count}; touch /bin/added", "-v", "tools:/bin")
    assert first.split()[0] == plain.split()[0]
    assert first.split()[1:4] == plain.split()[1:4]
    assert first.splitlines()[-1].split("sh ->")[1] == plain.splitlines()[-1].split("sh ->")[1]
    assert inside("ls /v/added", "-v", "tools:/v") == "/v/added\n"
    empty = inside("ls /nothing /bin2 | wc -l", "-v", "new:/nothing", "--mount",
                   "source=other,target=/bin2,volume-nocopy", "-v", f"{tmp_path}:/x")  # fmt: skip
    assert empty.split() == ["3"]  # two names of directories and a line between


def test_a_volume_without_a_name_goes_with_its_container() -> None:
    assert inside("ls /bin | wc -l; touch /bin/x", "-v", "/bin").strip() != "0"
    assert isoscope("volume", "ls", "--json").stdout == "[]\n"


def test_layers_are_merged_for_a_volume_and_links_stay_inside(tmp_path: Path) -> None:
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for layer in (upper, lower):
        (layer / "data").mkdir(parents=True)
    (lower / "data" / "gone").write_text("x")
    (lower / "data" / "kept").write_text("lower")
    (upper / "data" / "new").write_text("upper")
    (upper / "data" / "link").symlink_to("/etc/passwd")
    os.mknod(upper / "data" / "gone", 0o20000, os.makedev(0, 0))
    (upper / "out").symlink_to("../../../../../../../../etc")
    os.chown(upper / "data", 12, 34)
    files = tmp_path / "volume" / "files"
    files.mkdir(parents=True)
    fill(files, (upper, lower), "/data")
    assert {each.name for each in files.iterdir()} == {"kept", "new", "link"}
    assert (files / "link").is_symlink()
    assert (files.stat().st_uid, files.stat().st_gid) == (12, 34)
    other = tmp_path / "other" / "files"
    other.mkdir(parents=True)
    fill(other, (upper, lower), "/out")  # the image has no /etc, the host has
    assert not list(other.iterdir())
    assert [each.name for each in files.parent.iterdir()] == ["files"]


def test_a_copy_that_fails_leaves_the_volume_empty(tmp_path: Path) -> None:
    layer, small = tmp_path / "layer", tmp_path / "small"
    (layer / "data").mkdir(parents=True)
    (layer / "data" / "large").write_bytes(bytes(1 << 20))
    small.mkdir()
    syscalls.mount("tmpfs", str(small), "tmpfs", 0, "size=64k")
    try:
        (small / "files").mkdir()
        with pytest.raises(RuntimeFault, match="No space left"):
            fill(small / "files", (layer,), "/data")
        assert not list((small / "files").iterdir())
        assert [each.name for each in small.iterdir()] == ["files"]
    finally:
        syscalls.umount2(str(small), 0)


def started(*options: str) -> subprocess.Popen[bytes]:
    script = ["busybox", "sh", "-c", "echo ready; exec sleep 1000"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "isoscope.py"), "run", *options, *script],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_volume_in_use_stays_and_its_users_are_told() -> None:
    with started("-v", "busy:/d") as process:
        try:
            (instance,) = instances_dir().iterdir()
            done = isoscope("volume", "rm", "busy")
            assert done.returncode == 125
            assert f"in use by {instance.name}" in done.stderr
            assert isoscope("volume", "prune", "--json").stdout == "[]\n"
        finally:
            os.kill(process.pid, signal.SIGKILL)
    assert isoscope("volume", "prune", "--json").stdout == '["busy"]\n'


def test_one_new_volume_for_many_at_once() -> None:
    def one(_: int) -> str:
        return inside("ls /bin | wc -l", "-v", "shared:/bin").strip()

    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(one, range(3)))
    assert counts == [inside("ls /bin | wc -l").strip()] * 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-v", "/no/such/place:/d"), "'/no/such/place', to be mounted on /d, does not exist"),
        (("-v", "a:/d", "--tmpfs", "/d"), "two mounts on /d"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    options: Sequence[str], says: str
) -> None:
    assert says in refused(*options)


def test_volumes_are_made_shown_and_removed() -> None:
    assert isoscope("volume", "create", "one", "two").stdout == "one\ntwo\n"
    assert [row.split()[0] for row in isoscope("volume", "ls").stdout.splitlines()] == [
        "NAME", "one", "two",
    ]  # fmt: skip
    assert '"used_by": []' in isoscope("volume", "inspect", "one").stdout
    assert isoscope("volume", "rm", "one", "two").stdout == "one\ntwo\n"
    for words in (("rm", "one"), ("inspect", "../instances"), ("create", "a/b"), ("create", "")):
        done = isoscope("volume", *words)
        assert done.returncode == 125
        assert len(done.stderr.splitlines()) == 1
