"""The distribution's kernel as it is packaged, with the initrd that its own tool makes for it.

Both are kept in the cache and never installed. mkinitramfs(8) reads the modules of an installed
kernel, so it runs in a mount namespace in which the package's modules lie where they would. Of its
configuration we change what an administrator would: a module more, and a script that puts our
program into the image's tree before the initrd hands over to it.
"""

import hashlib
import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

from vmbackend.cache import made_once, vm_cache
from vmbackend.compiler import AGENT, compiled
from vmbackend.disk import administrators_path
from vmbackend.errors import MachineUnavailable
from vmbackend.kernel import Kernel, kernel, unpacked_package
from vmbackend.ordinary import GUEST_PROGRAM

_CONFIGURATION = Path("/etc/initramfs-tools")
_REMEDY = "apt-get install initramfs-tools-core, on Debian"
_LIMIT_S = 300.0
_HOOK = '#!/bin/sh\n[ "$1" = prereqs ] || cp {agent} "$DESTDIR/bin/isoscope"\n'
_SCRIPT = f'#!/bin/sh\n[ "$1" = prereqs ] || cp /bin/isoscope "$rootmnt{GUEST_PROGRAM}"\n'
_MAKE = """\
set -e
mount -t overlay overlay -o "lowerdir=$1/lib:$2" "$2"
mount --bind "$1/boot" /boot
exec mkinitramfs -d "$3" -o "$4" "$5"
"""
_PLAIN_PATH = re.compile(r"[\w./+~-]+")


def missing_initrd_tool() -> MachineUnavailable | None:
    """Why the distribution's initrd cannot be made here; None if it can, or was."""
    if shutil.which("mkinitramfs", path=administrators_path()) and _CONFIGURATION.is_dir():
        return None
    return MachineUnavailable("mkinitramfs is missing", remedy=_REMEDY)


def packaged_parts() -> tuple[Kernel, Path]:
    """The packaged kernel and its initrd, made if they are missing. Raises MachineUnavailable."""
    if (why := missing_initrd_tool()) is not None:
        raise why
    agent = compiled(AGENT)
    release = kernel().release
    recipe = hashlib.sha256(f"{agent.name}\0{_HOOK}\0{_SCRIPT}\0{_MAKE}".encode()).hexdigest()
    directory = vm_cache("packaged", f"{release}-{recipe[:16]}")
    made_once(directory, partial(_make, release, agent))
    packaged = Kernel(release=release, image=directory / "bzImage", method="bzImage", modules=())
    return packaged, directory / "initrd"


def _make(release: str, agent: Path, directory: Path) -> None:
    scratch = directory.parent
    tree = unpacked_package(f"linux-image-{release}", scratch)
    directory.mkdir()
    shutil.copyfile(tree / f"boot/vmlinuz-{release}", directory / "bzImage")
    _run("depmod", "-b", str(tree), release)
    configuration = scratch / "configuration"
    shutil.copytree(_CONFIGURATION, configuration)
    with (configuration / "modules").open("a") as modules:
        modules.write("\nvirtio_console\n")
    if not _PLAIN_PATH.fullmatch(str(agent)):
        raise MachineUnavailable(
            f"a shell would misread the path {agent}", remedy="set ISOSCOPE_HOME to a plain path"
        )
    _write_script(configuration / "hooks" / "isoscope", _HOOK.format(agent=agent))
    _write_script(configuration / "scripts/init-bottom" / "isoscope", _SCRIPT)
    libraries = Path("/lib").resolve()
    become = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    _run(
        "unshare", *become, "--mount", "--propagation", "private", "sh", "-c", _MAKE, "sh",
        str(tree), str(libraries), str(configuration), str(directory / "initrd"), release,
    )  # fmt: skip


def _write_script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _run(*words: str) -> None:
    try:
        subprocess.run(
            words, check=True, capture_output=True, text=True, errors="replace",
            timeout=_LIMIT_S, stdin=subprocess.DEVNULL,
            env={"PATH": administrators_path(), "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        raise MachineUnavailable(f"{words[0]} is missing", remedy=_REMEDY) from None
    except subprocess.TimeoutExpired:
        raise MachineUnavailable(f"{words[0]} took more than {_LIMIT_S:g} s") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or f"status {error.returncode}").splitlines()[-1]
        raise MachineUnavailable(
            f"no initrd of the distribution: {last}", remedy=_REMEDY
        ) from None
