"""The vocabulary of a plan: steps, and how they print (pure).

A step is one kernel call with its arguments and its reason. A plan is decided before anything
is done; it can be read (``isoscope run --explain``), compared in a golden test, and executed by
whatever speaks this vocabulary.
"""

from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass

from runtime import syscalls

WAITING = b"W"
"""What a waiting plan says at the slot ``status`` when all is made (``plan.plan_waiting``)."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A descriptor under a name: an earlier step of the same plan opened it, or it is given.

    Given are ``status``, on which is told how the exec went, ``init``, the process descriptor of
    the container that is joined, ``gate``, at which a plan waits, and ``console``, the socket that
    takes a terminal's master.
    """

    name: str


Argument = int | str | bytes | tuple[str, ...] | tuple[int, ...] | Slot


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel call: its name, its arguments, why.

    *allow* holds the errnos that are no failure; after one of them so many steps are passed over
    as *skips* says, each a single call. *opens* is the name of the descriptor that the call
    returns, *phase* the point on the instance's timeline that its return marks. The one compound
    call is ``write``: it opens a file, writes and closes it.
    """

    call: str
    args: tuple[Argument, ...]
    reason: str
    _: KW_ONLY
    allow: frozenset[int] = frozenset()
    skips: int = 0
    opens: str | None = None
    phase: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What makes a container, or a command in one, in the order in which it happens.

    ``host`` runs in the caller. ``join`` runs in a process of its own that enters an existing
    container; it is empty for a new one. Then one clone with ``clone_flags``; ``inside`` runs in
    the clone and ends with an exec. ``undo`` is what the caller takes back when all is over.
    """

    clone_flags: int
    inside: tuple[Step, ...]
    host: tuple[Step, ...] = ()
    join: tuple[Step, ...] = ()
    undo: tuple[Step, ...] = ()

    def _repr_html_(self) -> str:
        """The plan as a notebook shows it: a table for each part, with the reason of each step."""
        from runtime.image import markup  # noqa: PLC0415 - only a notebook; a start must be light

        parts = []
        for title, steps in _parts(self):
            rows = (
                (str(number), _render_call(step), step.reason) for number, step in enumerate(steps)
            )
            parts.append(markup.table(("step", "call", "reason"), rows, caption=title))
        return "".join(parts)


def render(plan: Plan) -> str:
    """The plan as text, one numbered line a step; the numbers are those that errors name."""
    lines: list[str] = []
    for title, steps in _parts(plan):
        lines += [title, *_section(steps)]
    return "\n".join(lines) + "\n"


def _parts(plan: Plan) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """What is done where, in order; a part without steps is left out."""
    clone = f"clone({_flags(plan.clone_flags, 'CLONE_')})"
    for title, steps in (
        ("in the caller:", plan.host),
        ("in a process that enters the container:", plan.join),
        (f"{clone}\nin the clone:", plan.inside),
        ("when it has ended, in the caller:", plan.undo),
    ):
        if steps:
            yield title, steps


def _section(steps: tuple[Step, ...]) -> Iterator[str]:
    for number, step in enumerate(steps):
        yield f"  {number:3}  {_render_call(step)}  # {step.reason}"


def _render_call(step: Step) -> str:
    arguments = ", ".join(_render_arguments(step))
    opens = f"{step.opens} = " if step.opens else ""
    return f"{opens}{step.call}({arguments})"


def _render_arguments(step: Step) -> Iterable[str]:
    for position, argument in enumerate(step.args):
        prefix = _FLAG_ARGUMENTS.get((step.call, position))
        if prefix is not None and isinstance(argument, int):
            yield _flags(argument, prefix)
        elif (step.call, position) == ("prctl", 0):
            yield next(n for n, v in vars(syscalls).items() if n[:3] == "PR_" and v == argument)
        elif (step.call, position) in _MODE_ARGUMENTS and isinstance(argument, int):
            yield f"0o{argument:o}"
        else:
            yield _render_argument(argument)


def _render_argument(argument: Argument) -> str:
    match argument:
        case Slot(name):
            return name
        case bytes():
            return f"<{len(argument)} bytes>"
        case str():
            return '"' + repr(argument)[1:-1].replace('"', '\\"') + '"'
        case tuple():
            return "[" + ", ".join(repr(item) for item in argument) + "]"
        case _:
            return str(argument)


_FLAG_ARGUMENTS = {
    ("mount", 3): "MS_",
    ("mount_setattr", 1): "MOUNT_ATTR_",
    ("umount2", 1): "MNT_",
    ("unshare", 0): "CLONE_",
    ("setns", 1): "CLONE_",
}
_MODE_ARGUMENTS = {("mkdir", 1), ("mknod", 1), ("umask", 0)}


def _flags(value: int, prefix: str) -> str:
    names = [
        name
        for name, bit in vars(syscalls).items()
        if name.startswith(prefix) and value & bit and isinstance(bit, int)
    ]
    return " | ".join(names) or "0"
