"""The classic instructions beside buildah: the same Dockerfile, the same tree, entry by entry.

Where the two differ on purpose we do as BuildKit does: set-uid bits of a context are kept (left
out here), and who owns what is told in ON_PURPOSE. Times differ always: ours are the same in every
build.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.build.workplace import Workplace
from same_trees import described

from runtime.image import Image, Store

needs_peers = pytest.mark.skipif(
    not all(map(shutil.which, ("buildah", "skopeo", "umoci"))),
    reason="a peer is missing: apt-get install buildah skopeo umoci",
)

CLASSIC = """
FROM BASE AS build
ARG WORD=given
ENV PLACE=/shop/deep
WORKDIR $PLACE
COPY a.txt link.txt d /one/
COPY d /two
COPY d/* /three/
COPY a.txt /bin
ADD a.txt /four/five
ADD pack.tar.gz /six
COPY [ "with space", "/seven/" ]
RUN mkdir -p /r/gone && echo $WORD > /r/gone/f && ln /r/gone/f /r/hard
RUN echo app:x:55:66::/:/bin/sh >> /etc/passwd; echo team:x:77: >> /etc/group
RUN rm -r /r/gone; mkdir /r/gone; rm /bin/ash; ln -s a /r/link; chmod 2711 /var
RUN mkfifo /r/fifo && chown 12:34 /r/hard && chmod 4755 /r/hard && touch "/r/\u00fc x"
COPY --chown=app:team d /owned
COPY --chown=55:66 --chmod=640 a.txt /owned/chmod
USER app
RUN id -u > /tmp/who
FROM BASE
COPY --from=build /owned/ /owned/
COPY --from=build /r /
COPY --from=0 /shop/deep /bin/a.txt /etc/passwd /mixed/
COPY --from=build /tmp/who /who
ENTRYPOINT ["/bin/sh"]
CMD ["-c", "x"]
EXPOSE 80 53/udp
VOLUME /vol
LABEL a=b "c d"="e f"
STOPSIGNAL SIGTERM
"""


ON_PURPOSE = {
    b"owned": (55, 77),  # COPY of a directory makes its target like the source; buildah: root
}


class Peers:
    """buildah with storage of its own, and what it needs to be told."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._policy = place / "policy.json"
        self._policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        self._own = ["--root", f"{place}/root", "--runroot", f"{place}/run"]

    def take(self, store: Store, name: str) -> None:
        """Have the image *name* as ``localhost/NAME``."""
        layout = self.layout(store, name)
        own = f"[overlay@{self._place}/root+{self._place}/run]"
        self._copy(layout, f"containers-storage:{own}localhost/{name}:latest")

    def layout(self, store: Store, name: str) -> str:
        """The image *name* as an image layout that skopeo has copied out of our store."""
        layout = f"oci:{self._place}/layout-{name}:{name}"
        self._copy(f"oci:{store.root}:{name}:latest", layout)
        return layout

    def build(self, context: Path, *, file: Path) -> Path:
        """Build with buildah; the tree as umoci unpacks it."""
        buildah = ["buildah", *self._own, "--storage-driver", "overlay"]
        policy = ["--signature-policy", str(self._policy)]
        words = ["--isolation", "chroot", "--layers", "--format", "oci", "-t", "theirs"]
        _run(*buildah, "bud", *policy, *words, "-f", str(file), str(context))
        _run(*buildah, "push", *policy, "theirs", f"oci:{self._place}/theirs:theirs")
        return self.unpacked(f"{self._place}/theirs:theirs")

    def unpacked(self, layout: str) -> Path:
        """The tree of an image of a layout, by umoci."""
        bundle = self._place / f"bundle-{layout.rpartition(':')[2]}"
        _run("umoci", "unpack", "--image", layout, str(bundle))
        return bundle / "rootfs"

    def _copy(self, source: str, target: str) -> None:
        _run("skopeo", "copy", "-q", "--policy", str(self._policy), source, target)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    place = tmp_path / "peers"
    place.mkdir()
    try:
        yield Peers(place)
    finally:
        subprocess.run(["umount", place / "root/overlay"], check=False, capture_output=True)


@pytest.fixture
def image(workplace: Workplace) -> Image:
    workplace.write("a.txt", "a", mode=0o640)
    workplace.write("with space", "s")
    workplace.write("d/x", "x")
    workplace.write("d/sub/y", "y")
    (workplace.context / "d/sub").chmod(0o711)
    (workplace.context / "d/link").symlink_to("x")
    (workplace.context / "link.txt").symlink_to("a.txt")
    shutil.make_archive(str(workplace.context / "pack"), "gztar", workplace.context, "d")
    workplace.write("Ours", CLASSIC.replace("BASE", "busybox"))
    return workplace.build(CLASSIC.replace("BASE", "busybox"), tags=("classic",))


def _comparable(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything but times; a directory that a layer only names has buildah's or our time."""
    return {name: (*seen[:3], *seen[4:]) for name, seen in described(root).items()}


@needs_peers
def test_buildah_builds_the_same_tree(workplace: Workplace, image: Image, peers: Peers) -> None:
    file = workplace.write("../Theirs", CLASSIC.replace("BASE", "localhost/busybox"))
    peers.take(workplace.store, "busybox")
    theirs = _comparable(peers.build(workplace.context, file=file))
    ours = _comparable(workplace.tree(image))
    different = {name: seen for name, seen in ours.items() if theirs.get(name) != seen}
    assert {name: seen[1:3] for name, seen in different.items()} == ON_PURPOSE
    assert theirs.keys() == ours.keys()


@needs_peers
def test_others_read_what_we_built(workplace: Workplace, image: Image, peers: Peers) -> None:
    layout = peers.layout(workplace.store, "classic")
    said = json.loads(_run("skopeo", "inspect", "--config", layout))
    assert said["config"]["Entrypoint"] == ["/bin/sh"]
    assert said["config"]["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert said["config"]["Labels"] == {"a": "b", "c d": "e f"}
    layers = [entry for entry in said["history"] if not entry.get("empty_layer")]
    assert len(layers) == len(said["rootfs"]["diff_ids"]) == len(image.manifest.layers)
    unpacked = described(peers.unpacked(layout.removeprefix("oci:")))
    assert unpacked == described(workplace.tree(image))
