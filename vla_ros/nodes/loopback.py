"""Does this process take part in DDS on the loopback interface alone, as its profile says?

Fast DDS only logs when it cannot read a profile, keeps the one that it read first, and lets a file in the working
directory override both: then it would listen on every interface, with multicast.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from vla_ros.nodes.environment_check import RosEnvironmentError
from vla_ros.paths import share_file

PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
"""Environment variable that Fast DDS reads when it is first used."""

LOOPBACK_PROFILE = "config/dds/loopback.xml"
"""No shared memory, and sockets on 127.0.0.1 alone, so that `LOCALHOST` is not needed."""

RANGE_VARIABLE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
"""Environment variable that limits who is discovered; rmw_fastrtps_cpp reads it for every context."""

Sockets = frozenset[tuple[str, str]]


def is_meant_to_be_alone(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether a process with this environment keeps to the loopback interface by its profile, and by that alone."""
    return (
        environment.get(RANGE_VARIABLE) == "SYSTEM_DEFAULT"
        and environment.get(PROFILE_VARIABLE) == str(share_file(LOOPBACK_PROFILE))
    )  # fmt: skip


def is_known() -> bool:
    """Say whether this system tells who listens where."""
    return Path("/proc/net/udp").exists()


def udp_sockets(process: str = "self") -> Sockets:
    """Return the inode and the IPv4 address, as /proc/net/udp writes it, of each socket of a process for datagrams."""
    inodes = set()
    if not is_known():
        return frozenset()
    for file in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):  # one that was just closed
            inodes.add(str(file.readlink()).removeprefix("socket:[").removesuffix("]"))
    lines = Path(f"/proc/{process}/net/udp").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split() for line in lines]
    return frozenset((row[9], row[1].split(":")[0]) for row in rows if row[9] in inodes)


def strays(before: Sockets) -> list[str]:
    """Return the addresses other than 127.x.x.x of the sockets that this process has and had not `before`."""
    found = {address for _, address in udp_sockets() - before if not address.endswith("7F")}
    return sorted(".".join(str(byte) for byte in reversed(bytes.fromhex(address))) for address in found)


def require_loopback_alone(before: Sockets) -> None:
    """Refuse to go on where the middleware has opened another interface than the one of its profile.

    Raises:
        RosEnvironmentError: with the addresses.
    """
    if is_meant_to_be_alone() and (found := strays(before)):
        raise RosEnvironmentError(
            f"this process is to keep to this machine, and the middleware listens on {', '.join(found)}: is "
            f"{os.environ[PROFILE_VARIABLE]} readable, and is there another profile in {Path.cwd()}?"
        )
