"""DDS domains of this machine: which are free, and claims that keep two graphs of this package apart."""

from __future__ import annotations

import random
import socket

from vla_ros.domain_id import parse_domain_id
from vla_ros.nodes.transitions import GraphError

_DOMAINS = range(1, 100)
"""Domain ids whose ports lie under Linux's ephemeral ones."""

CLAIM_OFFSET = 5
PARTICIPANTS_PROBED = 32
_CLAIMS: list[socket.socket] = []


def claim_domain() -> tuple[int, socket.socket]:
    """Return a domain id that nobody on this machine uses, and a socket that keeps others off it until it is closed.

    RTPS 9.6.1: the ports of domain d begin at 7400 + 250 d; participant p listens at 10 + 2 p and 11 + 2 p, and
    2 to 9 are used by nobody. One of these is the claim. A domain is in use when a participant listens there; it need
    not be the first one: that one may have ended before the others.

    Raises:
        GraphError: when every domain is in use.
    """
    for domain in random.sample(list(_DOMAINS), len(_DOMAINS)):
        claim = _bound(_first_port(domain) + CLAIM_OFFSET)
        if claim is None:
            continue
        if not is_inhabited(domain):
            return domain, claim
        claim.close()
    raise GraphError(f"all DDS domains from {_DOMAINS[0]} to {_DOMAINS[-1]} are in use; set ROS_DOMAIN_ID")


def claim_chosen_domain(domain: int) -> socket.socket:
    """Return the claim on a domain that the user chose; ROS nodes of the user's own may be in it, another graph not."""
    claim = _bound(_first_port(parse_domain_id(str(domain), "the domain")) + CLAIM_OFFSET)
    if claim is None:
        raise GraphError(
            f"domain {domain} is used by another graph of this package on this machine; end it, or choose another "
            "domain (--domain)"
        )
    return claim


def _first_port(domain: int) -> int:
    return 7400 + 250 * domain


def is_inhabited(domain: int) -> bool:
    """Say whether anybody on this machine takes part in a domain."""
    for participant in range(PARTICIPANTS_PROBED):
        listener = _bound(_first_port(domain) + 10 + 2 * participant)
        if listener is None:
            return True
        listener.close()
    return False


def _bound(port: int) -> socket.socket | None:
    """Return a socket that listens at a port, or None when another one does."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        probe.bind(("", port))
    except OSError:
        probe.close()
        return None
    return probe


def free_domain() -> int:
    """Return a domain id that nobody on this machine uses, claimed until `release_domains` or the process ends."""
    domain, claim = claim_domain()
    _CLAIMS.append(claim)
    return domain


def release_domains() -> None:
    """Give back what `free_domain` claimed. There are 99 domains: a process that needs many does so between two."""
    while _CLAIMS:
        _CLAIMS.pop().close()
