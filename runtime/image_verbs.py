"""``isoscope image`` and ``isoscope registry``: images, and what stands above them in the runtime.

What runs containers is imported by the verbs alone that have to know who stands on an image:
pulling one must not wait for it.
"""

import signal
from collections.abc import Callable, Sequence

from runtime.commandline import ended_by
from runtime.container.interrupts import end_on_termination
from runtime.errors import RuntimeFault
from runtime.image import Store
from runtime.image.store_cli import BuildCache

_INTERRUPTED = 128 + signal.SIGINT


def image(argv: Sequence[str]) -> int:
    """The image verbs; an image that instances stand on is not removed under them."""
    from runtime.image import cli  # noqa: PLC0415 - each verb its own

    cache = BuildCache(size_bytes=_cache_bytes, limit_bytes=_cache_limit_bytes, empty=_empty_cache)
    return _shown(lambda: cli.main(argv, in_use=_instances_of, build_cache=cache), argv)


def registry(argv: Sequence[str]) -> int:
    """The registry's verbs; an image that instances stand on is not removed under them either."""
    from runtime.image.registry import cli  # noqa: PLC0415

    return _shown(lambda: cli.main(argv, in_use=_instances_of), argv)


def _shown(verb: Callable[[], int], argv: Sequence[str]) -> int:
    end_on_termination()
    try:
        return verb()
    except RuntimeFault as error:
        return ended_by(error, debug="--debug" in argv)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _instances_of(digest: str) -> tuple[str, ...]:
    from runtime.container.state import instances_of  # noqa: PLC0415

    return instances_of(digest)


def _cache_bytes() -> int:
    from runtime.build.eviction import cache_bytes  # noqa: PLC0415

    return cache_bytes(Store())


def _cache_limit_bytes() -> int:
    from runtime.build.eviction import cache_limit_bytes  # noqa: PLC0415

    return cache_limit_bytes()


def _empty_cache() -> int:
    from runtime.build.cache import prune  # noqa: PLC0415

    return prune(Store())
