"""Runs the lesson's image here: as a process, as a container, as a virtual machine.

This is the same API that the benchmark suite uses. Leaving a ``with`` block ends what it started.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.backend import Features, InstanceSpec, InstanceTimeout, Unavailable
from benchmarks.environment import environment, versions
from benchmarks.errors import BenchmarkError
from benchmarks.launcher import RemoteInstance, worker
from benchmarks.schedule import schedule
from benchmarks.workloads import Facts, WorkloadFailed
from benchmarks.workloads.facts import of_instance
from benchmarks.workloads.idle import Idle
from notebooks.course.evidence import SCHEMA, SUBJECTS, Evidence, ImageRecord, Look
from runtime.container.container import Options, explain
from runtime.container.spec import Limits
from runtime.container.state import sweep
from runtime.container.steps import render
from runtime.errors import RuntimeFault
from runtime.image import Image, Store, find_image

IMAGE = "busybox"
ARGV = Idle.record.argv
"""A shell that says one word and waits for ever: there is a first output, and time to look."""
CPUS = 1.0
LIMIT_BYTES = 256 << 20
OTHER_LIMITS_BYTES = (128 << 20, 1024 << 20)
"""What else an instance is given, to see whether it takes what it is given."""
_TIMEOUT_S = 60.0
_PAIR = 2


def unavailable() -> dict[str, Unavailable]:
    """What keeps this machine from running each subject, and what would help; tried for real."""
    found = {}
    for name in SUBJECTS:
        try:
            with worker(name) as backend:
                why = backend.probe()
        except BenchmarkError as error:
            why = Unavailable(reason=str(error), remedy="run ./isoscope setup")
        if why is not None:
            found[name] = why
    try:
        find_image(Store(), IMAGE)
    except RuntimeFault as error:
        found["image"] = Unavailable(reason=error.message, remedy=error.remedy or "")
    return found


@contextmanager
def started(
    name: str, image: Image, *, limit_bytes: int = LIMIT_BYTES
) -> Iterator[RemoteInstance]:
    """One instance of *image* on the backend *name*, up to its first output; then it idles."""
    with worker(name) as backend:
        backend.prepare(image.digest)
        with backend.launch(spec_for(backend.features, image, limit_bytes)) as instance:
            if not instance.until_output(timeout_s=_TIMEOUT_S):
                raise WorkloadFailed(f"no output within {_TIMEOUT_S:g} s")
            yield instance


def look(name: str, image: Image, *, block: int = 1, limit_bytes: int = LIMIT_BYTES) -> Look:
    """Start *image* on the backend *name*, look at it from outside and from inside, end it."""
    facts: Facts = {}
    with started(name, image, limit_bytes=limit_bytes) as instance:
        phases = dict(instance.phases)
        usage = instance.usage()  # before the facts: reading those runs a command inside
        of_instance(instance, facts)
    return Look(
        backend=name, block=block, limit_bytes=limit_bytes, alive=1, phases=phases, facts=facts,
        memory=usage.readings, absent=usage.absent,
    )  # fmt: skip


def pair(name: str, image: Image) -> tuple[Look, ...]:
    """Two instances on the same backend at the same time, and what each costs then."""
    with ExitStack() as both:
        instances = [both.enter_context(started(name, image)) for _ in range(_PAIR)]
        usages = [instance.usage() for instance in instances]
        phases = [dict(instance.phases) for instance in instances]
    return tuple(
        Look(
            backend=name, block=number, limit_bytes=LIMIT_BYTES, alive=_PAIR, phases=seen,
            facts={}, memory=usage.readings, absent=usage.absent,
        )
        for number, (seen, usage) in enumerate(zip(phases, usages, strict=True), start=1)
    )  # fmt: skip


def spec_for(features: Features, image: Image, limit_bytes: int) -> InstanceSpec:
    """The same for all, but for limits that a backend cannot enforce."""
    return InstanceSpec(
        image=image.digest,
        argv=ARGV,
        cpus=CPUS if "cpus" in features.enforces else None,
        memory_bytes=limit_bytes if "memory" in features.enforces else None,
    )


def ask(name: str, *argv: str) -> str:
    """What the command *argv* prints as an instance of its own on the backend *name*."""
    image = find_image(Store(), IMAGE)
    with worker(name) as backend:
        backend.prepare(image.digest)
        with backend.launch(InstanceSpec(image=image.digest, argv=argv)) as instance:
            result = instance.wait(timeout_s=_TIMEOUT_S)
    return (result.stdout + result.stderr).decode(errors="replace")


def observe(*, blocks: int = 3, seed: int = 1) -> Evidence:
    """Look at every subject *blocks* times, in seeded random order, and once at a pair of each.

    What enforces a limit of memory is looked at once more with each of the other limits.
    An instance that fails is kept, with its error. Raises RuntimeFault without an image.
    """
    store = Store()
    image = find_image(store, IMAGE)
    features: dict[str, Features] = {}
    for name in {*SUBJECTS, "vm"}:
        with worker(name) as backend:
            features[name] = backend.features
    looks = [
        _attempt(cell.label, image, block=cell.block)
        for cell in schedule(SUBJECTS, ["look"], blocks, seed)
    ]
    pairs = [each for name in SUBJECTS for each in _attempt_pair(name, image)]
    others = [
        _attempt(name, image, block=1, limit_bytes=limit)
        for name in SUBJECTS
        if "memory" in features[name].enforces
        for limit in OTHER_LIMITS_BYTES
    ]
    limits = Limits(cpus=CPUS, memory_bytes=LIMIT_BYTES)
    return Evidence(
        schema=SCHEMA,
        recorded=None,
        environment=environment(),
        versions=versions(),
        accelerator=features["vm"].accelerator,
        accelerator_sentence=features["vm"].accelerator_sentence,
        cpus=CPUS,
        limit_bytes=LIMIT_BYTES,
        image=ImageRecord(
            reference=image.references[0],
            manifest=store.read_blob(image.digest).decode(),
            config=store.read_blob(image.manifest.config).decode(),
        ),
        plan=render(explain(image, ARGV, Options(limits=limits))),
        looks=tuple(looks),
        pairs=tuple(pairs),
        others=tuple(others),
    )


def _attempt(name: str, image: Image, *, block: int, limit_bytes: int = LIMIT_BYTES) -> Look:
    try:
        return look(name, image, block=block, limit_bytes=limit_bytes)
    except (BenchmarkError, InstanceTimeout) as error:
        return _failed(name, error, block=block, limit_bytes=limit_bytes)
    finally:
        sweep()


def _attempt_pair(name: str, image: Image) -> tuple[Look, ...]:
    try:
        return pair(name, image)
    except (BenchmarkError, InstanceTimeout) as error:
        return (_failed(name, error, alive=_PAIR),)
    finally:
        sweep()


def _failed(
    name: str, error: Exception, *, block: int = 1, limit_bytes: int = LIMIT_BYTES, alive: int = 1
) -> Look:
    return Look(
        backend=name, block=block, limit_bytes=limit_bytes, alive=alive, phases={}, facts={},
        memory={}, absent={}, error=str(error),
    )  # fmt: skip
