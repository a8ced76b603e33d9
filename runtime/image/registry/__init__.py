"""Images from and to registries, and a small registry of our own (OCI distribution-spec 1.1).

The arrows between the modules run one way::

    cli -> pull, push, copying -> repository -> endpoint -> authorization, wire -> url, patience
                                  choice        endpoint -> credentials, trust, places
    cli -> server -> requests, catalog, uploads

Everything that comes over the network is a stranger's: sizes and times are bounded, content is
compared with its digest before the store has it.
"""
