import leftovers
import pytest

from notebooks.course import observing
from notebooks.course.evidence import SUBJECTS
from runtime.image import Image

NAMES = ("host", "container")


@pytest.fixture(autouse=True)
def capable(busybox: Image) -> None:
    assert busybox.digest
    if missing := {k: v for k, v in observing.unavailable().items() if k in NAMES}:
        pytest.skip("; ".join(f"{k}: {v.reason}; {v.remedy}" for k, v in missing.items()))


@pytest.mark.parametrize("name", NAMES)
def test_a_look_sees_phases_facts_and_memory(name: str, busybox: Image) -> None:
    look = observing.look(name, busybox, block=2)
    assert (look.backend, look.block, look.alive, look.error) == (name, 2, 1, None)
    assert look.phases["request"] == 0 < look.phases["exec"] < look.phases["output"]
    assert look.facts["boot_id"]
    assert 0 < look.memory_bytes["uss"] <= look.memory_bytes["pss"] <= look.memory_bytes["rss"]


def test_a_look_is_given_the_memory_it_says(busybox: Image) -> None:
    look = observing.look("container", busybox, limit_bytes=128 << 20)
    assert look.limit_bytes == look.facts["memory_total_bytes"] == 128 << 20


@pytest.mark.parametrize("name", NAMES)
def test_two_at_once_share_pages(name: str, busybox: Image) -> None:
    alone = observing.look(name, busybox)
    pair = observing.pair(name, busybox)
    assert [look.alive for look in pair] == [2, 2]
    assert all(look.memory_bytes["uss"] < alone.memory_bytes["uss"] for look in pair)


def test_process_and_container_answer_with_one_kernel() -> None:
    said = {name: observing.ask(name, "cat", "/proc/sys/kernel/random/boot_id") for name in NAMES}
    assert len(set(said.values())) == 1
    assert said["host"].strip()


def test_an_instance_that_fails_is_kept_with_its_error(
    monkeypatch: pytest.MonkeyPatch, busybox: Image
) -> None:
    before = leftovers.seen()
    monkeypatch.setattr(observing, "ARGV", ("false",))  # ends without a word
    monkeypatch.setattr(observing, "SUBJECTS", NAMES)
    evidence = observing.observe(blocks=2)
    assert len(evidence.failures) == len(NAMES) * (2 + 1) + len(observing.OTHER_LIMITS_BYTES)
    assert all("no output" in str(look.error) for look in evidence.failures)
    assert not any(evidence.of(name) or evidence.pair_of(name) for name in SUBJECTS)
    assert evidence.image.image == busybox
    assert not leftovers.settled(before)
