"""The seam: what every way of running an image offers, and nothing that only one of them has.

A backend turns an image into instances; an instance is one running or finished execution. The
protocols are structural: an adapter in ``benchmarks.backends`` satisfies them without inheriting.
Phases are nanoseconds on the host's monotonic clock since ``launch`` was called; their one
vocabulary is ``COMMON_PHASES``, finer marks are written ``common.detail``.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

COMMON_PHASES = (
    "request", "prepared", "engine", "kernel", "init", "exec", "output", "exit", "gone",
)  # fmt: skip
"""In the order of a machine's life. A container mounts its root after its process exists, so
``prepared`` may stand later there; a phase that cannot be seen is absent, never guessed."""

Limit = Literal["cpus", "memory", "pids"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """Why a backend cannot run here, and what would help; both are shown as they are."""

    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What a backend can honour. More than this is refused before launch, never ignored."""

    enforces: frozenset[Limit] = frozenset()
    exec: bool = False
    stdin: bool = False
    mounts: bool = False
    ports: bool = False
    networks: frozenset[str] = frozenset({"none"})
    detach: bool = False
    accelerator: str | None = None
    accelerator_sentence: str | None = None
    """How it was found out, for people; beside every number that depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What it cost, once, to make an image startable on a backend.

    ``duration_ns`` was measured when the artefact was made; ``cached`` says that this was earlier.
    ``disk_bytes`` is what the artefact occupies: the price of the first instance.
    """

    duration_ns: int
    disk_bytes: int
    cached: bool
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSpec:
    """The same values for every backend. ``argv`` empty: the instance stays idle.

    ``env`` is exact: nothing is added to it but what the image's config says, and it wins.
    ``user`` is ``uid[:gid]`` or a name in the image's passwd file; None is the image's own.
    """

    image: str
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    user: str | None = None
    stdin: bytes = b""
    cpus: float | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    mounts: tuple[tuple[str, str], ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    network: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How a command ended: status (128+n for signal n), its output apart, when what happened."""

    exit_status: int
    stdout: bytes
    stderr: bytes
    phases: Mapping[str, int]

    def _repr_html_(self) -> str:
        """How it ended, as a notebook shows it."""
        from runtime.image import markup  # noqa: PLC0415 - only a notebook; the seam is light

        return markup.ended(
            exit_status=self.exit_status,
            stdout=self.stdout,
            stderr=self.stderr,
            phases=self.phases,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One amount of memory or disk, with how it was read."""

    value_bytes: int
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Definition -> reading. A definition without a meaning here is in ``absent``, with why."""

    readings: Mapping[str, Reading]
    absent: Mapping[str, str] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Each amount with how it was read, then what has no meaning here and why."""
        from runtime.image import markup  # noqa: PLC0415 - only a notebook; the seam is light

        rows = [(name, f"{r.value_bytes:,} bytes", r.method) for name, r in self.readings.items()]
        rows += [(name, "absent", why) for name, why in self.absent.items()]
        return markup.table(("definition", "amount", "how it was read"), rows)


class InstanceTimeout(Exception):  # noqa: N818 - named by what happened
    """A deadline passed. When this is raised, everything of the instance is dead.

    Carries what was seen until then: partial output, the last phase, the console's last lines.
    """

    def __init__(
        self,
        message: str,
        *,
        stdout: bytes = b"",
        stderr: bytes = b"",
        last_phase: str = "request",
        console_tail: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.stdout = stdout
        self.stderr = stderr
        self.last_phase = last_phase
        self.console_tail = console_tail


class Instance(Protocol):
    """One execution of an image. It runs ``spec.argv``, or stays idle if that is empty."""

    @property
    def requested_ns(self) -> int:
        """When ``launch`` was called, on CLOCK_MONOTONIC: what phases count from."""

    @property
    def phases(self) -> Mapping[str, int]:
        """Nanoseconds since ``launch`` was called, by phase; grows while the instance lives."""

    def wait(self, *, timeout_s: float) -> ExecResult:
        """The end of ``spec.argv``. Raises InstanceTimeout after *timeout_s*."""

    def until_output(self, *, timeout_s: float) -> bool:
        """Wait for the first output of ``spec.argv``; False if its end or the time came first."""

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> ExecResult:
        """One more command inside; its phases count from this call. Raises InstanceTimeout."""

    def usage(self) -> Usage:
        """Memory and disk of this instance alone, now, by each definition that has a meaning."""


class Backend(Protocol):
    """A way to run an image."""

    @property
    def name(self) -> str:
        """``container``, or with a variant ``vm:restored``."""

    @property
    def features(self) -> Features:
        """What it can honour; asked, never guessed."""

    def probe(self) -> Unavailable | None:
        """None if it works here, tried for real; else why not and what would help."""

    def prepare(self, image: str) -> Preparation:
        """Make *image* (a digest) startable; once per image, idempotent, timed apart."""

    def launch(self, spec: InstanceSpec) -> AbstractContextManager[Instance]:
        """Start an instance. Leaving the block is the teardown: nothing of it remains."""
