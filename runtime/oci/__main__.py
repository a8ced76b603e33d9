"""Where ``isoscope-oci`` begins: stand-ins first, then the commands (see ``lean``).

It lives for milliseconds: nothing is worth collecting, and the kernel frees memory faster than
the interpreter, so it ends without tidying up.
"""

import gc
import os
import sys

if __name__ == "__main__":
    gc.disable()
    folder = __file__.rpartition("/")[0] or "."
    sys.path.insert(0, folder)  # for the package itself imports what is stood in for
    import lean  # type: ignore[import-not-found]

    lean.install()
    sys.path[0] = folder + "/../.."
    from runtime.oci.cli import main

    status = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:  # nobody reads any more
        status = status or 1
    os._exit(status)
