"""The container runtime: images, and containers made of them by a plan that can be read.

``runtime.run`` and ``runtime.Container`` are the short way; they are imported when first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.container.asked import Container, run

__all__ = ["Container", "run"]


def __getattr__(name: str) -> Any:
    """The short way's names, for whoever uses them: everybody else gets a package and no more."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runtime.container import asked  # noqa: PLC0415 - importing the package must stay light

    return getattr(asked, name)
