import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress

import pytest

from runtime.image import progress
from runtime.image.progress import Transfer


@contextmanager
def terminal() -> Iterator[int]:
    """A terminal as standard error; yields the end at which what it shows can be read."""
    shown, ours = pty.openpty()
    with os.fdopen(ours, "w") as stream, redirect_stderr(stream):
        yield shown
    os.close(shown)


def pieces(shown: int) -> Iterator[str]:
    """All that was shown: a terminal gives it out in parts."""
    os.set_blocking(shown, False)
    with suppress(BlockingIOError):
        while True:
            yield os.read(shown, 1 << 16).decode(errors="replace")


def test_what_lasts_gets_a_bar_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    transfers = [Transfer("aaaa", 1000, 500, "downloading"), Transfer("bbbb", 2000)]
    with terminal() as shown:
        with progress.watcher(quiet=False) as watching:
            assert watching is not None
            watching.shows(transfers)
            transfers[0].done_bytes = 1000
            watching.shows(transfers)
        text = "".join(pieces(shown))
    assert "aaaa downloading" in text
    assert "bbbb waiting" in text


def test_what_is_quick_or_quiet_gets_none() -> None:
    with terminal() as shown:
        with progress.watcher(quiet=True) as watching:
            assert watching is None
        with progress.watcher(quiet=False) as watching:
            assert watching is not None
            watching.shows([Transfer("aaaa", 1000)])
        os.set_blocking(shown, False)
        with pytest.raises(BlockingIOError):
            os.read(shown, 1)


def test_what_is_no_terminal_gets_none() -> None:
    with (
        open(os.devnull, "w", encoding="utf-8") as stream,  # noqa: PTH123
        redirect_stderr(stream),
        progress.watcher(quiet=False) as watching,
    ):
        assert watching is None
