"""The container runtime: images, and containers made of them by a plan that can be read.

``runtime.run`` and ``runtime.Container`` are the short way; ``runtime.create`` makes a container
that outlives the program, ``runtime.containers`` finds those there are. They are imported when
first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.container.asked import Container, run
    from runtime.container.kept.asked import containers, create
    from runtime.container.kept.kept import Kept

__all__ = ["Container", "Kept", "containers", "create", "run"]

_WHERE = {
    "Container": "asked",
    "Kept": "kept.kept",
    "containers": "kept.asked",
    "create": "kept.asked",
    "run": "asked",
}


def __getattr__(name: str) -> Any:
    """The short way's names, for whoever uses them: everybody else gets a package and no more."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - importing the package must stay light

    return getattr(import_module(f"runtime.container.{_WHERE[name]}"), name)
