from pathlib import Path

import pytest

from vmbackend.errors import MachineSpecError
from vmbackend.share import Share, check_targets, parse_share


def test_shares_are_read_as_docker_writes_them() -> None:
    assert parse_share("/a b:/c") == Share(source=Path("/a b"), target="/c")
    assert parse_share("/a:/c:rw") == Share(source=Path("/a"), target="/c")
    assert parse_share("/a:/c:ro") == Share(source=Path("/a"), target="/c", is_readonly=True)


@pytest.mark.parametrize(
    "text", ["", "/a", "a:/b", "/a:b", "/a:/b:rx", "/a:/b:ro:ro", ":/a", "x" * 9999]
)
def test_what_is_no_share_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(MachineSpecError) as caught:
        parse_share(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "shares",
    [
        ("/a:/",), ("/a://",), ("/a:/b/..",), ("/a:/b", "/c:/b/"), ("/a,b:/c",), ("/a\\b:/c",),
        ("/a:/b\0",), tuple(f"/a:/{i}" for i in range(17)),
    ],
)  # fmt: skip
def test_shares_that_cannot_be_are_refused(shares: tuple[str, ...]) -> None:
    with pytest.raises(MachineSpecError):
        check_targets([parse_share(text) for text in shares])
