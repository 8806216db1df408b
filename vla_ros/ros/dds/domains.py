"""DDS domains of this machine: find free ones, and claim them so that two graphs of this package stay apart."""

from __future__ import annotations

import random
import socket

from vla_ros.domain_id import parse_domain_id
from vla_ros.ros.transitions import GraphError

_DOMAINS = range(1, 100)
"""Domain ids whose ports lie below Linux's ephemeral range."""

CLAIM_OFFSET = 5
PARTICIPANTS_PROBED = 32
_CLAIMS: list[socket.socket] = []


def claim_domain() -> tuple[int, socket.socket]:
    """Return an unused domain id, and a socket that claims it on this machine until closed.

    RTPS 9.6.1: the ports of domain d begin at 7400 + 250 d; participant p listens at offsets 10 + 2 p and 11 + 2 p, and
    offsets 2 to 9 are unused. One of these is the claim. A domain is in use if any participant listens there, not
    necessarily the first, which may have ended before the others.

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
    """Claim a domain that the user chose. The user's own ROS nodes may be in it, but not another graph."""
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
    """Return whether any participant on this machine is in a domain."""
    for participant in range(PARTICIPANTS_PROBED):
        listener = _bound(_first_port(domain) + 10 + 2 * participant)
        if listener is None:
            return True
        listener.close()
    return False


def _bound(port: int) -> socket.socket | None:
    """Return a socket bound to a port, or None if the port is taken."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        probe.bind(("", port))
    except OSError:
        probe.close()
        return None
    return probe


def free_domain() -> int:
    """Return an unused domain id, claimed until `release_domains` or the end of the process."""
    domain, claim = claim_domain()
    _CLAIMS.append(claim)
    return domain


def release_domains() -> None:
    """Release the claims of `free_domain`.

    There are only 99 domains, so a process that needs many releases them in between.
    """
    while _CLAIMS:
        _CLAIMS.pop().close()
