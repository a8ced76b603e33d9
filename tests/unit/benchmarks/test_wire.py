import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import wire
from benchmarks.backend import ExecResult, InstanceSpec, InstanceTimeout, Reading, Usage


@given(st.binary(), st.binary(), st.integers(0, 255))
def test_results_survive_the_journey(stdout: bytes, stderr: bytes, status: int) -> None:
    result = ExecResult(
        exit_status=status, stdout=stdout, stderr=stderr, phases={"request": 0, "exit": 7}
    )
    assert wire.unpack_result(wire.pack_result(result)) == result


@given(st.lists(st.text(max_size=5)), st.dictionaries(st.text(max_size=5), st.text()), st.binary())
def test_specs_survive_the_journey(argv: list[str], env: dict[str, str], stdin: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        spec = InstanceSpec(
            image="sha256:0", argv=tuple(argv), env=env, stdin=stdin, mounts=(("/a", "/b"),)
        )
        wire.Line(ours).send(wire.pack_spec(spec))
        received = wire.Line(theirs).receive(5)
    assert received is not None
    assert wire.unpack_spec(received) == spec


def test_usage_and_timeouts_survive_the_journey() -> None:
    usage = Usage(readings={"pss": Reading(value_bytes=1, method="m")}, absent={"uss": "why"})
    assert wire.unpack_usage(wire.pack_usage(usage)) == usage
    passed = InstanceTimeout(
        "late", stdout=b"\xff", stderr=b"e", last_phase="init", console_tail="panic"
    )
    again = wire.unpack_timeout(wire.pack_timeout(passed))
    assert vars(again) == vars(passed)


def test_the_end_of_the_other_side_is_seen() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        assert wire.Line(ours).receive(5) is None


def test_silence_is_a_timeout() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        wire.Line(ours).receive(0.01)
