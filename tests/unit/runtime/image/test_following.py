import io
import os
from pathlib import Path

import pytest

from runtime.errors import ImageError
from runtime.image.following import Following
from runtime.image.progress import Transfer
from runtime.image.room import CHECK_BYTES, Room


class Recorder:
    """A watcher that keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []

    def shows(self, transfers: object) -> None:
        assert isinstance(transfers, list)
        self.seen += [(each.name, each.state, each.done_bytes) for each in transfers]


def test_who_watches_sees_all_of_it_from_the_beginning() -> None:
    watcher = Recorder()
    following = Following(room=None, watcher=watcher)
    following.expect("a", 8)
    following.expect("b", 4)
    source = following.reader(io.BytesIO(b"12345678"), "a", 8, "storing")
    assert (source.read(3), source.read()) == (b"123", b"45678")
    assert watcher.seen[:2] == [("a", "storing", 3), ("b", "waiting", 0)]
    assert following.transfers["a"] == Transfer("a", 8, 8, "storing")
    following.reader(io.BytesIO(b""), "a", 8, "again")  # what is read twice begins anew
    assert following.transfers["a"].done_bytes == 0


def test_it_ends_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    following = Following(room=Room(path=tmp_path, what="the image"))
    source = following.reader(io.BytesIO(bytes(CHECK_BYTES + 1)), "a", CHECK_BYTES + 9, "storing")
    blocks = dict.fromkeys(("f_bsize", "f_frsize"), 4096)
    status = os.statvfs(tmp_path)
    fields = {name: getattr(status, name) for name in dir(status) if name.startswith("f_")}
    full = {**fields, **blocks, "f_blocks": 1 << 20, "f_bfree": 100, "f_bavail": 100}

    class Full:
        def __init__(self) -> None:
            self.__dict__.update(full)

    monkeypatch.setattr("os.statvfs", lambda _: Full())
    assert len(source.read(CHECK_BYTES - 1)) == CHECK_BYTES - 1
    with pytest.raises(ImageError, match="is full: the image has no room there; 8 B were still"):
        source.read(2)
    with pytest.raises(ImageError, match="needs 410 kB and 410 kB are free, so 8 B are missing"):
        Room(path=tmp_path, what="the image").require(100 * 4096 + 8)
