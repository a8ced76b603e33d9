"""Signals as people and images write them: ``TERM``, ``SIGQUIT``, ``9``, ``SIGRTMIN+3`` (pure)."""

import re
import signal

from runtime.errors import SpecError

_REAL_TIME = re.compile(r"(RTMIN|RTMAX)(?:([+-])([0-9]{1,2}))?")


def parse_signal(text: str) -> int:
    """The number of the signal *text*. Raises SpecError. Source: signal(7)."""
    name = text.strip().upper().removeprefix("SIG")
    number = int(name) if re.fullmatch(r"[0-9]{1,3}", name) else _named(name)
    if not 0 < number <= signal.SIGRTMAX:
        raise SpecError(f"{text!r} is no signal", remedy="write a name or number, such as TERM")
    return number


def _named(name: str) -> int:
    if (match := _REAL_TIME.fullmatch(name)) is not None:
        base = signal.SIGRTMIN if match[1] == "RTMIN" else signal.SIGRTMAX
        offset = int(match[3] or 0) * (-1 if match[2] == "-" else 1)
        number = int(base) + offset
        return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else 0
    found = signal.Signals.__members__.get(f"SIG{name}")
    return 0 if found is None else int(found)
