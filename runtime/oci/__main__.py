"""Where ``isoscope-oci`` begins: stand-ins first, then the commands (see ``lean``)."""

import sys

if __name__ == "__main__":
    sys.path[0] = __file__.rsplit("/", 3)[0] or "."  # was this folder; -I leaves it nothing else
    from runtime.oci import lean

    lean.install()
    from runtime.oci.cli import main

    sys.exit(main(sys.argv[1:]))
