"""``isoscope network``: make, list, inspect and remove networks."""

import argparse
from collections.abc import Sequence

from runtime.commandline import Parser
from runtime.network import networks
from runtime.network.addresses import gateway, parse_subnet
from runtime.network.networks import Found
from runtime.noun_cli import Noun


def main(argv: Sequence[str]) -> int:
    """Do what the words after ``isoscope network`` say; the exit status.

    Raises RuntimeFault for the caller to show; wrong usage exits with status 2 (argparse).
    """
    arguments = network_parser().parse_args(argv)
    networks.sweep()
    arguments.verb(arguments)
    return 0


def network_parser() -> Parser:
    """All the verbs of ``isoscope network``."""
    parser, verbs = Noun(
        word="network",
        purpose="Make, list, inspect and remove the networks that containers meet on.",
        headings=("NAME", "SUBNET", "MEMBERS", "OUTSIDE"),
        found=networks.networks,
        named=_named,
        row=_row,
        described=_described,
        remove=networks.remove,
        removal="remove networks that nobody is on",
    ).parser()
    create = verbs.add_parser("create", help="make a network; it stands while it has members")
    create.add_argument("name", metavar="NAME")
    create.add_argument(
        "--subnet", metavar="A.B.C.D/N", help="its addresses; a free range if not given"
    )
    create.add_argument("--internal", action="store_true", help="no way to the outside")
    create.set_defaults(verb=_create)
    return parser


def _create(arguments: argparse.Namespace) -> None:
    subnet = None if arguments.subnet is None else parse_subnet(arguments.subnet)
    made = networks.create(arguments.name, subnet=subnet, is_internal=arguments.internal)
    print(made.name)


def _named(names: Sequence[str]) -> list[Found]:
    """Those called *names*; the default network is made by being named."""
    chosen = [networks.resolve(name).name for name in names]
    known = {each.network.name: each for each in networks.networks()}
    return [known[name] for name in chosen]


def _row(found: Found) -> tuple[str, ...]:
    standing = found.standing
    subnet = standing.subnet if standing else found.network.subnet
    members = len(standing.leases) if standing else 0
    outside = "no" if found.network.is_internal else "yes"
    return (found.network.name, str(subnet or "-"), str(members), outside)


def _described(found: Found) -> dict[str, object]:
    network, standing = found.network, found.standing
    subnet = standing.subnet if standing else network.subnet
    return {
        "name": network.name,
        "id": network.id,
        "created": network.created,
        "internal": network.is_internal,
        "subnet": None if subnet is None else str(subnet),
        "gateway": None if subnet is None else str(gateway(subnet)),
        "bridge": network.bridge if standing else None,
        "members": [
            {
                "instance": lease.instance,
                "address": str(lease.address),
                "names": list(lease.names),
                "ports": [str(port) for port in lease.ports],
            }
            for lease in (standing.leases if standing else ())
        ],
    }
