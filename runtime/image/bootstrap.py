"""An image without a registry: the machine's own static busybox, packed the same every time."""

import gzip
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import ImageError
from runtime.image.document import render_document
from runtime.image.elf import Elf, read_elf
from runtime.image.manifest import CONFIG_TYPE, LAYER_GZIP_TYPE, MANIFEST_TYPE, Descriptor, Image
from runtime.image.reference import parse_reference
from runtime.image.store import Store

BUSYBOX = Path("/bin/busybox")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_REMEDY = "apt-get install busybox-static"
_APPLET = re.compile(r"[A-Za-z0-9_.\[-][A-Za-z0-9_.\[+-]*")
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_GROUP = b"root:x:0:\nnogroup:x:65534:\n"
_DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "proc": 0o755, "root": 0o700, "sys": 0o755,
    "tmp": 0o1777, "usr": 0o755, "var": 0o755,
}  # fmt: skip


def bootstrap_busybox(
    store: Store, reference: str = "busybox", *, binary: Path = BUSYBOX
) -> Image:
    """Make an image of the static *binary* and name it *reference*.

    The same binary gives the same digest: entries are sorted, all times are 0, all owners root.
    Raises ImageError if the binary is missing or needs a dynamic linker.
    """
    name = str(parse_reference(reference))
    program = _static(binary)
    archive = _archive(binary.read_bytes(), _applets(binary))
    with store.writing():
        # mtime 0 and no name: gzip(1) would put both into its header.
        layer = store.write_blob(gzip.compress(archive, mtime=0), LAYER_GZIP_TYPE)
        config = store.write_blob(_config(program, archive), CONFIG_TYPE)
        manifest = store.write_blob(_manifest(config, layer), MANIFEST_TYPE)
        return store.tag(manifest.digest, name)


def _static(binary: Path) -> Elf:
    try:
        program = read_elf(binary)
    except OSError as error:
        message = f"cannot read {binary}: {error.strerror}"
        raise ImageError(message, remedy=_REMEDY) from error
    if not program.static:
        raise ImageError(f"{binary} needs a dynamic linker", remedy=_REMEDY)
    return program


def _applets(binary: Path) -> list[str]:
    """The names under which *binary* works, by its own list; sorted."""
    import subprocess  # noqa: PLC0415 - costs more to import than all of this package

    try:
        listed = subprocess.run(
            [binary, "--list"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ImageError(f"{binary} does not list its applets: {error}", remedy=_REMEDY) from error
    names = set(listed.stdout.decode("ascii", "replace").split()) - {"busybox"}
    odd = sorted(name for name in names if not _APPLET.fullmatch(name))
    if odd or "sh" not in names:
        what = f"the odd applet {odd[0]!r}" if odd else "no applet 'sh'"
        raise ImageError(f"{binary} has {what}", remedy=_REMEDY)
    return sorted(names)


def _archive(program: bytes, applets: list[str]) -> bytes:
    """The tar of the root directory."""
    import tarfile  # noqa: PLC0415 - drags in every compressor; only who packs needs it

    def members() -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        for name, mode in _DIRECTORIES.items():
            yield member(name, tarfile.DIRTYPE, mode)
        yield member("bin/busybox", tarfile.REGTYPE, 0o755, program)
        for applet in applets:
            yield member(f"bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox")
        yield member("etc/passwd", tarfile.REGTYPE, 0o644, _PASSWD)
        yield member("etc/group", tarfile.REGTYPE, 0o644, _GROUP)

    def member(
        name: str, kind: bytes, mode: int, data: bytes = b"", link: str = ""
    ) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)  # owner 0:0 and time 0 unless told
        info.type, info.mode, info.size, info.linkname = kind, mode, len(data), link
        return info, data

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for info, data in sorted(members(), key=lambda pair: pair[0].name):
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def _config(program: Elf, archive: bytes) -> bytes:
    return render_document(
        {
            "architecture": program.architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {"Env": [f"PATH={SEARCH_PATH}"], "Cmd": ["sh"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(archive).hexdigest()}"],
            },
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "isoscope bootstrap"}],
        }
    )


def _manifest(config: Descriptor, layer: Descriptor) -> bytes:
    return render_document(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.to_json(),
            "layers": [layer.to_json()],
        }
    )
