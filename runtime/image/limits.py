"""How large what is kept for later may become: a constant, or what the environment says."""

import argparse
import os

from runtime.commandline import size
from runtime.errors import ImageError


def limit_bytes(variable: str, default_bytes: int) -> int:
    """What the environment's *variable* says, as ``20g`` or ``512m``. Raises ImageError."""
    text = os.environ.get(variable, "")
    if not text:
        return default_bytes
    try:
        return size(text)
    except argparse.ArgumentTypeError as error:
        raise ImageError(f"{variable}: {error}", remedy="write a size such as 20g") from error
