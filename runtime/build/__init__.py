"""From a Dockerfile to an image: read, decided by a pure plan, run in our own containers.

The arrows between the modules run one way::

    cli -> plan -> dockerfile, expansion, ... -> model          what is to be done (pure)
    cli -> builder -> inputs -> keys, cache, sources            what is done already
           builder -> stagework -> execution -> shown, stubs, copying, archives, downloading
           all of these -> views, rootfs, state                 the rest, in a worker per stage
"""
