"""Recordings of evidence: plain JSON that names no one, with the means to notice a change."""

import datetime as dt
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.errors import BenchmarkError, ResultsError
from benchmarks.results import write_atomically
from benchmarks.strict_json import as_json, decode, loads
from notebooks.course.evidence import SCHEMA, SUBJECTS, Evidence
from notebooks.course.wording import ENGLISH
from reports.words import Words
from runtime.image import state_dir

MODES = ("auto", "live", "recorded")
MODE_VARIABLE = "ISOSCOPE_LAB_MODE"
RECORDED = Path(__file__).parent.parent / "recorded"

_GROUP = re.compile(r'(/sys/fs/cgroup/[^/"]+)/\S*?(/isoscope-)')
"""A group's path tells what else runs on a machine; which controller it is of is enough."""
_EVERYBODYS = frozenset({"", "/", "/root", "localhost", *SUBJECTS})
"""Names and paths that stand in any recording and tell of no machine in particular."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a file holds: the evidence, and the SHA-256 of it as ``as_json`` writes it."""

    sha256: str
    evidence: Evidence


class NotHere(BenchmarkError):  # noqa: N818 - named by what is the case
    """A lesson was to be live, and this machine cannot run all that it needs."""


def gather(lesson: str, mode: str, words: Words = ENGLISH) -> Evidence:
    """The evidence of *lesson*: measured now, or read from its recording.

    ``live`` raises NotHere where a subject cannot run; ``auto`` then takes the recording and says
    why. All of one evidence comes from one machine, so nothing is mixed.
    """
    if mode not in MODES:
        raise NotHere(f"unknown mode {mode!r}", remedy=f"choose from {', '.join(MODES)}")
    if mode == "recorded":
        return replace(read(lesson), note=words("lesson.asked_recording"))
    from notebooks.course import observing  # noqa: PLC0415 - a recording needs no engine

    if not (missing := observing.unavailable()):
        return observing.observe()
    why = "; ".join(f"{name}: {each.reason}" for name, each in missing.items())
    remedy = "; ".join(dict.fromkeys(each.remedy for each in missing.values() if each.remedy))
    if mode == "live":
        raise NotHere(f"this machine cannot run the lesson live ({why})", remedy=remedy)
    return replace(read(lesson), note=words("lesson.because", why=why, remedy=remedy))


def read(lesson: str, *, directory: Path = RECORDED) -> Evidence:
    """The recording of *lesson*. Raises ResultsError if it is missing or was changed."""
    path = directory / f"{lesson}.json"
    try:
        raw = path.read_bytes()
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise ResultsError(message, remedy="git checkout notebooks/recorded") from error
    recording = decode(Recording, loads(raw))
    if recording.evidence.schema != SCHEMA or recording.sha256 != _sha256(recording.evidence):
        raise ResultsError(
            f"{path} is not what was recorded", remedy="git checkout notebooks/recorded"
        )
    return recording.evidence


def write(lesson: str, evidence: Evidence, *, directory: Path = RECORDED) -> Path:
    """Keep *evidence* as the recording of *lesson*. Raises ResultsError."""
    path = directory / f"{lesson}.json"
    recording = Recording(sha256=_sha256(evidence), evidence=evidence)
    write_atomically(path, as_json(recording, indent=1) + b"\n")
    return path


def anonymous(evidence: Evidence) -> Evidence:
    """*evidence* as a recording of today: no path of this machine's own is left in it.

    Raises ResultsError if the host's name stands in it all the same.
    """
    today = dt.datetime.now(dt.UTC).date().isoformat()
    plan = evidence.plan.replace(str(state_dir()), "$ISOSCOPE_HOME")
    told = replace(evidence, recorded=today, plan=_GROUP.sub(r"\1\2", plan))
    if (named := _named(as_json(told).decode(), _private())) is not None:
        raise ResultsError(f"the evidence holds this machine's {named}; it was not recorded")
    return told


Kind = Literal["host name", "state directory", "home directory"]


def _private() -> Mapping[Kind, str]:
    return {
        "host name": os.uname().nodename,
        "state directory": str(state_dir()),
        "home directory": str(Path.home()),
    }


def _named(text: str, private: Mapping[Kind, str]) -> Kind | None:
    """Which of *private* stands in *text* as a word of its own, if one does."""
    for kind, word in private.items():
        if word not in _EVERYBODYS and re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text):
            return kind
    return None


def _sha256(evidence: Evidence) -> str:
    return hashlib.sha256(as_json(evidence)).hexdigest()
