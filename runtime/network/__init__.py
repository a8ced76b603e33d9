"""Networks of containers: links and addresses, translation, published ports, names.

The arrows between the modules run one way::

    cli -> networks, attachment -> bridge -> firewall, keeping -> ledger -> addresses
    keeper -> resolver -> names          bridge, keeper -> links -> netlink

A network costs nothing while nobody is on it. With its first member come a bridge, a table of
translation rules of its own and a keeper, a small process that answers names and takes it all
down when the last member's namespace has gone, however that came about.
"""
