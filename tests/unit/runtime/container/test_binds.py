"""What is shown inside from outside: the order of the steps is the protection."""

import dataclasses

from unit.runtime.container.test_plan import container, facts

from runtime import syscalls
from runtime.container.plan import plan
from runtime.container.spec import Bind
from runtime.container.steps import Slot, Step

FILE = Bind(source="/outside/file", target="/a/b/file", directory=False, read_only=False)
FOLDER = Bind(source="/outside/folder", target="/c", directory=True)


def inside(*binds: Bind, host_network: bool = False) -> tuple[Step, ...]:
    spec = dataclasses.replace(container("true"), binds=binds, host_network=host_network)
    return plan(spec, facts()).inside


def test_sources_are_opened_before_and_attached_after_the_root_is_changed() -> None:
    steps = inside(FILE, FOLDER)
    calls = [step.call for step in steps]
    pivot = calls.index("pivot_root")
    assert [n for n, call in enumerate(calls) if call == "open_tree"] < [pivot]
    assert all(n > pivot for n, call in enumerate(calls) if call == "move_mount")
    opened = [step for step in steps if step.call in {"open_tree", "mount_setattr"}]
    assert [step.args[1] for step in opened] == [
        "/outside/file", syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV,
        "/outside/folder",
        syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_RDONLY,
    ]  # fmt: skip


def test_targets_are_made_and_nothing_of_it_stays_open() -> None:
    steps = inside(FILE, FOLDER)
    made = [(s.call, s.args[0]) for s in steps if s.call in {"mkdir", "mknod"}]
    assert [pair for pair in made if str(pair[1]).startswith(("/a", "/c"))] == [
        ("mkdir", "/a"), ("mkdir", "/a/b"), ("mknod", "/a/b/file"), ("mkdir", "/c"),
    ]  # fmt: skip
    closed = {step.args[0] for step in steps if step.call == "close"}
    assert {Slot("bind0"), Slot("bind1"), Slot("place")} <= closed


def test_the_network_of_the_host_needs_no_device_of_its_own() -> None:
    spec = dataclasses.replace(container("true"), host_network=True)
    made = plan(spec, facts())
    assert not made.clone_flags & syscalls.CLONE_NEWNET
    assert "ioctl" not in {step.call for step in made.inside}
    assert "ioctl" in {step.call for step in inside()}
