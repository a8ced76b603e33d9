"""The image that a user means, made on the spot where this machine can make it."""

from runtime.errors import ImageError
from runtime.image.manifest import Image
from runtime.image.reference import parse_reference
from runtime.image.store import Store

_MADE_HERE = "busybox"


def find_image(store: Store, name: str) -> Image:
    """The image *name*; ``busybox`` is bootstrapped when it is named for the first time.

    Raises ImageError if there is no such image, or none can be made.
    """
    try:
        return store.resolve(name)
    except ImageError:
        if name not in {_MADE_HERE, str(parse_reference(_MADE_HERE))}:
            raise
    from runtime.image.bootstrap import bootstrap_busybox  # noqa: PLC0415 - once in a lifetime

    made = bootstrap_busybox(store, _MADE_HERE)
    return store.resolve(made.digest)
