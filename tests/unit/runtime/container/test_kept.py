"""The pure parts of containers that are kept: signals, pieces of logs, records, verbs."""

import json
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import isoscope
from runtime.container.attachments import Wishes
from runtime.container.cgroups import Hierarchy
from runtime.container.container import Options
from runtime.container.devices import Device
from runtime.container.kept import cli
from runtime.container.kept.logs import END, LOST, STDERR, STDOUT, Frame, last_lines, pieces
from runtime.container.kept.record import Living, Record, read_record, standing, write_record
from runtime.container.kept.signals import parse_signal
from runtime.container.protection import Protection
from runtime.container.spec import Limits
from runtime.container.ulimits import Ulimit
from runtime.errors import RuntimeFault, SpecError
from runtime.network.ports import Port
from runtime.volume.mount import MountRequest


@pytest.mark.parametrize(
    ("text", "number"),
    [("TERM", 15), ("sigquit", 3), ("9", 9), ("SIGRTMIN+3", signal.SIGRTMIN + 3), ("RTMAX-1", 63)],
)
def test_signals_as_people_write_them(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "999", "SIG", "NO", "RTMIN+99", "-9", "_DFL"])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(SpecError, match="no signal"):
        parse_signal(text)


@given(st.lists(st.tuples(st.sampled_from((STDOUT, STDERR)), st.binary(min_size=1)), max_size=20))
def test_pieces_are_the_same_bytes_cut_at_newlines(said: list[tuple[int, bytes]]) -> None:
    frames = [Frame(at, stream, data) for at, (stream, data) in enumerate(said)]
    found = list(pieces([*frames, Frame(99, END, b"")]))
    for stream in (STDOUT, STDERR):
        text = b"".join(data for each, data in said if each == stream)
        own = [piece for piece in found if piece.stream == stream]
        assert b"".join(piece.data for piece in own) == text
        starts = text.count(b"\n") + (text != b"" and not text.endswith(b"\n"))
        assert sum(piece.is_start for piece in own) == starts
    assert all(b"\n" not in piece.data[:-1] for piece in found)


@given(st.binary(max_size=60), st.integers(0, 5), st.integers(1, 7))
def test_the_last_lines_however_they_were_chunked(text: bytes, count: int, size: int) -> None:
    text = text.replace(b"a", b"\n")
    frames = [Frame(0, STDOUT, text[at : at + size]) for at in range(0, len(text), size)]
    shown = b"".join(piece.data for piece in last_lines(pieces(frames), count))
    lines = [line + b"\n" for line in text.split(b"\n")]
    whole = [*lines[:-1], *([lines[-1][:-1]] if lines[-1] != b"\n" else [])]
    assert shown == b"".join(whole[-count:] if count else [])


def test_lost_bytes_are_told_of() -> None:
    (piece,) = pieces([Frame(0, LOST, (7).to_bytes(8, "little"))])
    assert (piece.stream, b"7 bytes were lost" in piece.data) == (STDERR, True)


RECORD = Record(
    id="0123456789ab", name="web", backend="container", image="sha256:0", image_name="x",
    argv=("sh", "-c", "é\n"), created="2026-01-01T00:00:00.000000+00:00", is_kept=True,
    started_ns=5, init=Living(pid=1 << 22, started_ticks=1, boot="x"),
    executor=Living(pid=1 << 22, started_ticks=1, boot="x"),
    hierarchies=(Hierarchy(version=1, controllers=("memory",), mount_point="/m", own_path="/"),),
    options=Options(
        env={"A": "1"}, cwd="/x", user="7:8", hostname="h",
        limits=Limits(memory_bytes=1 << 30, cpus=0.5, pids=9),
        attached=Wishes(
            mounts=(MountRequest(kind="volume", target="/v", source="data"),), network="bridge",
            ports=(Port(host=80, inside=8080),), names=("web",),
        ),
        protection=Protection(
            capabilities=frozenset({"chown", "kill"}), profile=b"\x06\0\0\xff", read_only=True,
            devices=(Device(path="/dev/x", kind="c", major=1, minor=3),),
            ulimits=(Ulimit(name="nofile", soft=9, hard=10),),
        ),
    ),
)  # fmt: skip


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD
    assert [each.name for each in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2}', "nul\0", '{"schema": 1, "pids": {"init": 3}}']
)
def test_a_record_that_is_none_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(RuntimeFault, match="cannot be read"):
        read_record(tmp_path)


def test_how_it_ended_is_only_what_came_after_its_start(tmp_path: Path) -> None:
    end = tmp_path / "end.json"
    assert standing(tmp_path, RECORD).exit_status == 137
    for ended_ns, status in ((4, 137), (6, 3)):
        end.write_text(json.dumps({"exit_status": 3, "ended_ns": ended_ns}))
        assert standing(tmp_path, RECORD).exit_status == status


def test_the_front_door_knows_these_verbs() -> None:
    assert {*cli.VERBS, "commit"} == {*isoscope._KEPT}
    assert {*isoscope._KEPT} <= {*isoscope._told_verbs()}
    for verb in cli.VERBS:
        assert cli.parser_of(verb).prog == f"isoscope {verb}"
