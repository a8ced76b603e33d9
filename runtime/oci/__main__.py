"""Where ``isoscope-oci`` begins: stand-ins first, then the commands (see ``lean``)."""

import sys

if __name__ == "__main__":
    folder = __file__.rpartition("/")[0] or "."
    sys.path.insert(0, folder)  # for the package itself imports what is stood in for
    import lean  # type: ignore[import-not-found]

    lean.install()
    sys.path[0] = folder + "/../.."
    from runtime.oci.cli import main

    sys.exit(main(sys.argv[1:]))
