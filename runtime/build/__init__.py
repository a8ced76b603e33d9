"""From a Dockerfile to an image: read, decided by a pure plan, run in our own containers.

The arrows between the modules run one way::

    cli -> builder -> steps, cache -> plan -> dockerfile -> model
"""
