"""What each instruction does to the tree, in real builds."""

import io
import stat
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from integration.build.workplace import Workplace

from runtime.build.result import StepFailed
from runtime.errors import BuildError
from runtime.image import Store


def test_a_stage_builds_on_another_and_takes_files_of_a_third(workplace: Workplace) -> None:
    workplace.write("one.txt", "one")
    tree = workplace.built(
        """
FROM busybox AS unused
RUN exit 1
FROM busybox AS first
WORKDIR /shop
COPY one.txt .
RUN echo first > made && rm one.txt
FROM first AS second
RUN cat made > copied
FROM busybox
COPY --from=second /shop/ /result/
COPY --from=1 /etc/passwd /result/users
"""
    )
    assert sorted(path.name for path in (tree / "result").iterdir()) == ["copied", "made", "users"]
    assert (tree / "result" / "copied").read_text() == "first\n"
    assert not (tree / "shop").exists()


def test_a_run_sees_its_environment_its_user_and_its_directory(workplace: Workplace) -> None:
    tree = workplace.built(
        """
FROM busybox
ENV COLOUR=blue
ARG SIZE=3
RUN echo worker:x:1234:5::/home/worker:/bin/sh >> /etc/passwd && mkdir -m 777 /out
WORKDIR /home/worker
USER worker
RUN id -u > /out/uid; pwd > /out/pwd; env | sort > /out/env; hostname > /out/name
""",
        build_args={"SIZE": "7"},
    )
    assert (tree / "out/uid").read_text() == "1234\n"
    assert (tree / "out/name").read_text() == "build\n"
    assert (tree / "out/pwd").read_text() == "/home/worker\n"
    seen = (tree / "out/env").read_text().splitlines()
    assert {"COLOUR=blue", "SIZE=7", "HOME=/home/worker", "SOURCE_DATE_EPOCH=315532800"} <= {*seen}
    assert not [line for line in seen if line.startswith("ISOSCOPE")]


def test_deletions_replacements_and_modes_come_through(workplace: Workplace) -> None:
    tree = workplace.built(
        """
FROM busybox
RUN mkdir -p /d/keep /d/gone && echo a > /d/gone/a && ln /d/gone/a /d/linked && echo b > /d/b
RUN rm -r /d/gone && mkdir /d/gone && chmod 4750 /d/b && rm /bin/ash && ln -s b /d/link
"""
    )
    assert list((tree / "d/gone").iterdir()) == []
    assert stat.S_IMODE((tree / "d/b").stat().st_mode) == 0o4750
    assert (tree / "d/link").readlink() == Path("b")
    assert not (tree / "bin/ash").exists()


def test_what_is_mounted_for_a_run_is_in_no_layer(workplace: Workplace) -> None:
    image = workplace.build("FROM busybox\nRUN test -s /etc/resolv.conf && test -d /proc/1\n")
    assert len(image.manifest.layers) == len(Store().resolve("busybox").manifest.layers)
    scratch = workplace.build(
        """
FROM busybox AS tools
FROM scratch
COPY --from=tools /bin/busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox test -e /dev/null"]
RUN ["/bin/busybox", "mkdir", "/made"]
"""
    )
    tree = workplace.tree(scratch)
    assert sorted(path.name for path in tree.iterdir()) == ["bin", "made"]


def test_stages_that_do_not_need_each_other_are_built_at_the_same_time(
    workplace: Workplace,
) -> None:
    meet = (
        "RUN --mount=type=cache,id=meeting,target=/m touch /m/ME; n=0; "
        "until [ -e /m/OTHER ]; do sleep 0.1; n=$((n+1)); [ $n -lt 200 ] || exit 1; done\n"
    )
    workplace.build(
        "FROM busybox AS one\n" + meet.replace("ME", "a").replace("OTHER", "b")
        + "FROM busybox AS two\n" + meet.replace("ME", "b").replace("OTHER", "a")
        + "FROM busybox\nCOPY --from=one /bin/sh /one\nCOPY --from=two /bin/sh /two\n"
    )  # fmt: skip


def test_network_none_has_no_way_out(workplace: Workplace) -> None:
    tree = workplace.built(
        """
FROM busybox
RUN --network=none ls /sys/class/net > /inside
RUN ls /sys/class/net > /host
"""
    )
    assert (tree / "inside").read_text().split() == ["lo"]
    assert (tree / "host").read_text().split() == sorted(
        path.name for path in Path("/sys/class/net").iterdir()
    )


def test_mounts_of_a_run(workplace: Workplace) -> None:
    workplace.write("in/data", "from the context")
    workplace.write("in/hidden", "not to be seen")
    dockerfile = """
FROM busybox AS other
RUN echo stage > /file
FROM busybox
RUN --mount=type=bind,source=in,target=/context \
    --mount=type=bind,from=other,source=/file,target=/stage/file \
    --mount=type=tmpfs,target=/fast \
    --mount=type=secret,id=token,target=/run/token \
    --mount=type=secret,id=absent \
    --mount=type=secret,id=token,env=TOKEN \
    ls /context > /seen && cat /context/data /stage/file /run/token > /all && echo $TOKEN >> /all \
    && touch /fast/x && stat -c %a /run/token >> /all \
    && (sh -c 'echo no > /context/data' 2> /refused || true)
"""
    tree = workplace.built(dockerfile, ignore="in/hidden", secrets={"token": b"s3cret\n"})
    assert (tree / "seen").read_text() == "data\n"
    assert (tree / "all").read_text() == "from the contextstage\ns3cret\ns3cret\n400\n"
    assert "Read-only" in (tree / "refused").read_text()
    made = {path.name for path in tree.iterdir()}
    assert not made & {"context", "stage", "fast", "run"}
    assert (workplace.context / "in/data").read_text() == "from the context"


COUNTING = """FROM busybox
RUN --mount=type=secret,id=word,required=true wc -c < /run/secrets/word > /n
"""


def test_a_secret_is_in_no_layer_no_history_and_no_cache(workplace: Workplace) -> None:
    secret = b"a-word-that-nobody-else-would-write"
    image = workplace.build(COUNTING, secrets={"word": secret})
    assert (workplace.tree(image) / "n").read_text() == f"{len(secret)}\n"
    home = Store().root.parent
    files = [
        path for part in ("images", "build") for path in (home / part).rglob("*") if path.is_file()
    ]
    assert files
    assert not [path for path in files if secret in path.read_bytes()]
    with pytest.raises(BuildError, match="Dockerfile:2: the secret 'word' is required"):
        workplace.build(COUNTING, no_cache=True)


@pytest.mark.parametrize("sharing", ["shared", "locked", "private"])
def test_a_cache_mount_is_kept_from_build_to_build(workplace: Workplace, sharing: str) -> None:
    dockerfile = """
FROM busybox AS seed
RUN mkdir /seed && echo begun > /seed/count
FROM busybox
ARG ROUND
RUN --mount=type=cache,id=ID,target=/cache,sharing=SHARING,from=seed,source=/seed \
    echo $ROUND >> /cache/count && cat /cache/count > /seen
""".replace("ID", f"test-{sharing}").replace("SHARING", sharing)
    first = workplace.built(dockerfile, build_args={"ROUND": "1"})
    second = workplace.built(dockerfile, build_args={"ROUND": "2"})
    assert (first / "seen").read_text() == "begun\n1\n"
    assert (second / "seen").read_text() == "begun\n1\n2\n"
    assert not (second / "cache").exists()


def test_here_documents_are_commands_scripts_and_files(workplace: Workplace) -> None:
    tree = workplace.built(
        """
FROM busybox
RUN <<END
echo one > /one
echo two > /two
END
RUN <<END
#!/bin/sh
echo "$0" > /script
END
COPY --chmod=750 <<first <<"second" /texts/
$HOME
first
$HOME
second
"""
    )
    assert (tree / "one").read_text() + (tree / "two").read_text() == "one\ntwo\n"
    assert (tree / "script").read_text() == "/dev/pipes/EOF\n"
    assert (tree / "texts/second").read_text() == "$HOME\n"
    assert stat.S_IMODE((tree / "texts/first").stat().st_mode) == 0o750


def test_owners_are_looked_up_in_the_files_of_the_stage(workplace: Workplace) -> None:
    workplace.write("file")
    tree = workplace.built(
        """
FROM busybox
RUN echo app:x:77:77::/:/bin/sh >> /etc/passwd && echo team:x:88:me >> /etc/group
COPY --chown=app file /by/name
COPY --chown=app:team file /by/both
COPY --chown=9 file /by/number
COPY --chown=app --link file /linked
COPY file /plain
FROM busybox
COPY --from=0 /by /by
COPY --from=0 /linked /plain /
"""
    )
    owners = {
        name: ((tree / name).stat().st_uid, (tree / name).stat().st_gid)
        for name in ("by", "by/name", "by/both", "by/number", "linked", "plain")
    }
    assert owners == {
        "by": (77, 77), "by/name": (77, 77), "by/both": (77, 88), "by/number": (9, 9),
        "linked": (77, 77), "plain": (0, 0),
    }  # fmt: skip
    with pytest.raises(BuildError, match="Dockerfile:2: the image has no user 'nobody-here'"):
        workplace.build("FROM busybox\nCOPY --chown=nobody-here file /x\n")


def _tar(members: list[tuple[tarfile.TarInfo, bytes]], mode: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_add_unpacks_archives_and_copies_the_rest(workplace: Workplace, mode: str) -> None:
    link = tarfile.TarInfo("lib/link")
    link.type, link.linkname = tarfile.SYMTYPE, "../bin/tool"
    tool = tarfile.TarInfo("./bin/tool")
    tool.mode, tool.uid = 0o755, 5
    workplace.write("pack", _tar([(tool, b"tool"), (link, b"")], mode))
    workplace.write("plain.gz", b"\x1f\x8bno archive")
    tree = workplace.built("FROM busybox\nADD pack plain.gz /opt/\nCOPY pack /copied\n")
    assert (tree / "opt/bin/tool").read_bytes() == b"tool"
    assert (tree / "opt/bin/tool").stat().st_uid == 5
    assert (tree / "opt/lib/link").readlink() == Path("../bin/tool")
    assert (tree / "opt/plain.gz").read_bytes() == b"\x1f\x8bno archive"
    assert (tree / "copied").read_bytes() == (workplace.context / "pack").read_bytes()
    assert not (tree / "opt/pack").exists()


class _Files(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012 - of the one server of a test

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
            return
        if self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"short")
            return
        self.send_response(200 if self.path != "/none" else 404)
        self.end_headers()
        self.wfile.write(b"content")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    _Files.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), _Files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


# The server is a thread of ours; a build on its own has one thread only when it forks.
threads = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@threads
def test_add_fetches_addresses(workplace: Workplace, address: str) -> None:
    checksum = "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    dockerfile = (
        f"FROM busybox\nADD {address}/a/file.txt /got/\nADD --checksum={checksum} {address}/x /y\n"
    )
    tree = workplace.built(dockerfile)
    assert (tree / "got/file.txt").read_bytes() == b"content"
    assert stat.S_IMODE((tree / "got/file.txt").stat().st_mode) == 0o600
    _Files.asked.clear()
    workplace.build(dockerfile)
    assert workplace.run_steps() == []
    assert _Files.asked == ["/a/file.txt"]  # what has a checksum is not fetched again


@threads
@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("{}/none", "answers 404"),
        ("{}/away", "file:///etc/passwd.* is not allowed"),
        ("{}/short", "ended after 5 of 100 bytes|cannot be fetched"),
        ("--checksum=sha256:" + "0" * 64 + " {}/x", "hashes to sha256:ed70"),
        ("http://127.0.0.1:1/x", "cannot be fetched: .*refused"),
    ],
)
def test_a_bad_download_is_told(workplace: Workplace, address: str, words: str, why: str) -> None:
    with pytest.raises(BuildError, match=rf"Dockerfile:2: .*({why})"):
        workplace.build(f"FROM busybox\nADD {words.format(address)} /x/y\n")


def test_a_failing_run_tells_all_that_helps(workplace: Workplace) -> None:
    with pytest.raises(StepFailed) as caught:
        workplace.build(
            """FROM busybox
ENV WORD=kept
RUN echo before > /before
RUN for n in $(seq 30); do echo line $n; done; printf '\\033[2Jlast'; exit 7
"""
        )
    failure = caught.value.failure
    assert (failure.line, failure.status) == (4, 7)
    told = caught.value.told()
    assert "[4/4]" not in told.splitlines()[1]
    assert "line 12\n" in told
    assert "line 11\n" not in told
    assert "\\x1b[2Jlast" in told
    assert failure.image is not None
    kept = workplace.store.resolve(failure.image)
    assert kept.references == ()
    assert dict(kept.config.env)["WORD"] == "kept"
    assert (workplace.tree(kept) / "before").read_text() == "before\n"
    assert f"isoscope run {failure.image[7:19]} sh" in told


def test_a_command_that_is_not_there_is_told(workplace: Workplace) -> None:
    with pytest.raises(BuildError, match="Dockerfile:2: cannot run '/no/such': not found"):
        workplace.build('FROM busybox\nRUN ["/no/such"]\n')
