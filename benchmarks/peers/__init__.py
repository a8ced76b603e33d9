"""What adapters to other people's runtimes share; each adapter is in ``benchmarks.backends``.

ground      where peers run: mounts and control groups that end with the worker
program     a peer's command line, started with pipes
instance    an instance seen through such a program, from request to gone
waiting     the program of an instance without a command
trees       unpacked images for peers that read none
probing     whether a peer is here and works
bundle      an OCI runtime bundle's config.json (pure)
oci         runc and crun
archive     an image of our store as a file that docker and podman load
engines     docker and podman
emulator    QEMU's command line (pure)
"""
