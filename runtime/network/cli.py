"""``isoscope network``: make, list, inspect and remove networks."""

import argparse
import json
from collections.abc import Sequence

from runtime.commandline import Parser, table
from runtime.network import networks
from runtime.network.addresses import gateway, parse_subnet
from runtime.network.networks import Found


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
    parser = Parser(
        prog="isoscope network",
        description="Make, list, inspect and remove the networks that containers meet on.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    create = verbs.add_parser("create", help="make a network; it stands while it has members")
    create.add_argument("name", metavar="NAME")
    create.add_argument(
        "--subnet", metavar="A.B.C.D/N", help="its addresses; a free range if not given"
    )
    create.add_argument("--internal", action="store_true", help="no way to the outside")
    create.set_defaults(verb=_create)

    listing = verbs.add_parser("ls", help="list the networks")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(verb=_list)

    inspect = verbs.add_parser("inspect", help="print what is known of a network, as JSON")
    inspect.add_argument("names", metavar="NAME", nargs="+")
    inspect.set_defaults(verb=_inspect)

    remove = verbs.add_parser("rm", help="remove networks that nobody is on")
    remove.add_argument("names", metavar="NAME", nargs="+")
    remove.set_defaults(verb=_remove)
    return parser


def _create(arguments: argparse.Namespace) -> None:
    subnet = None if arguments.subnet is None else parse_subnet(arguments.subnet)
    made = networks.create(arguments.name, subnet=subnet, is_internal=arguments.internal)
    print(made.name)


def _list(arguments: argparse.Namespace) -> None:
    found = networks.networks()
    if arguments.json:
        print(json.dumps([_described(each) for each in found], indent=2))
        return
    rows = [("NAME", "SUBNET", "MEMBERS", "OUTSIDE")]
    for each in found:
        standing = each.standing
        subnet = standing.subnet if standing else each.network.subnet
        members = len(standing.leases) if standing else 0
        outside = "no" if each.network.is_internal else "yes"
        rows.append((each.network.name, str(subnet or "-"), str(members), outside))
    print(table(rows))


def _inspect(arguments: argparse.Namespace) -> None:
    known = {each.network.name: each for each in networks.networks()}
    chosen = [networks.resolve(name).name for name in arguments.names]
    known |= {each.network.name: each for each in networks.networks()}
    print(json.dumps([_described(known[name]) for name in chosen], indent=2))


def _remove(arguments: argparse.Namespace) -> None:
    for name in arguments.names:
        networks.remove(name)
        print(name)


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
