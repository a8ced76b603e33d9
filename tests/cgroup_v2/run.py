"""What containers need of cgroup v2, tried in a machine whose controllers are all bound to it.

    .venv/bin/python tests/cgroup_v2/run.py [OPTION OF PYTEST…]

Boots a Debian guest on the cloud kernel, shows it this checkout read-only, and runs the tests in
``limits.py`` there, as root. The image is made on first use (apt, mmdebstrap; a minute). The exit
status is pytest's. It needs what machines need: see ``isoscope doctor``.
"""

import shlex
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from runtime.container.launch.compiled import obstacle
from runtime.errors import ImageError
from runtime.fault import Fault
from runtime.image import Image, Store, cache_dir, find_image
from runtime.image.debian import DebianRecipe, bootstrap_debian
from vmbackend.channel import Kind
from vmbackend.kernel import further_modules, kernel
from vmbackend.machine import machine
from vmbackend.share import Share
from vmbackend.spec import MIB, MachineSpec

ROOT = Path(__file__).parent.parent.parent
IMAGE = "cgroup-v2"
PACKAGES = ("python3", "busybox-static")
MODULES = ("overlay",)
TESTS = "tests/cgroup_v2/limits.py"
LIMIT_S = 1800.0
_PYTEST = ("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist")
_VERSION = "'import sys; print(*sys.version_info[:2], sep=\".\")'"
_OTHER = "'cgroup_v2: the guest has another Python, which cannot use the libraries of this one'"


def main(words: Sequence[str]) -> int:
    """Run pytest with *words* in the guest; its exit status."""
    try:
        return _run(_image(), words)
    except Fault as error:
        print(f"cgroup_v2: {error}", file=sys.stderr)
        return 125


def _image() -> Image:
    store = Store()
    try:
        return find_image(store, IMAGE)
    except ImageError:
        made = bootstrap_debian(store, IMAGE, DebianRecipe(include=PACKAGES), say=_say)
        return made.image


def _run(image: Image, words: Sequence[str]) -> int:
    if (why := obstacle()) is not None:
        print(f"cgroup_v2: without the compiled executor: {why}", file=sys.stderr)
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    guests = kernel()
    modules = further_modules(guests, MODULES)
    shares = {
        "/srv/checkout": ROOT,
        "/srv/site": Path(sysconfig.get_path("purelib")),
        "/srv/modules": guests.image.parent / "further",
        "/srv/programs": cache_dir("programs"),
    }
    lines = [
        "set -e",
        *(f"busybox insmod /srv/modules/{module.name}" for module in modules),
        "export PYTHONPATH=/srv/site PYTHONDONTWRITEBYTECODE=1 ISOSCOPE_HOME=/root",
        "export ISOSCOPE_PROGRAMS=/srv/programs",
        f"[ $(python3 -c {_VERSION}) = {ours} ] || {{ echo {_OTHER}; exit 125; }}",
        "cd /srv/checkout",
        f"exec {shlex.join(['python3', '-m', 'pytest', *_PYTEST, *words, TESTS])}",
    ]
    spec = MachineSpec(
        image=image.digest,
        argv=("sh", "-c", "\n".join(lines)),
        memory_bytes=1024 * MIB,
        cpus=2,
        shares=tuple(
            Share(source=source, target=target, is_readonly=True)
            for target, source in shares.items()
        ),
    )
    with machine(spec, sink=_write_out) as guest:
        return guest.wait(timeout_s=LIMIT_S).exit_status


def _say(line: str) -> None:
    print(f"cgroup_v2: {line}", file=sys.stderr)


def _write_out(kind: Kind, data: bytes) -> None:
    stream = sys.stdout if kind is Kind.STDOUT else sys.stderr
    stream.buffer.write(data)
    stream.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
