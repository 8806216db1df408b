"""Check that DDS uses only the loopback interface, as the profile says.

Fast DDS only logs an unreadable profile, keeps the first one it has read, and lets a file in the working directory
override both. In each case it would listen on every interface, with multicast.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from vla_ros.paths import share_file
from vla_ros.ros.dds.environment_check import RosEnvironmentError

PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
"""Environment variable with the profile path; Fast DDS reads it on first use."""

LOOPBACK_PROFILE = "config/dds/loopback.xml"
"""Profile without shared memory and with sockets on 127.0.0.1 only, so that `LOCALHOST` is not needed."""

RANGE_VARIABLE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
"""Environment variable that limits discovery; rmw_fastrtps_cpp reads it for every context."""

Sockets = frozenset[tuple[str, str]]


def is_meant_to_be_alone(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this environment limits a process to the loopback interface by the profile alone."""
    return environment.get(RANGE_VARIABLE) == "SYSTEM_DEFAULT" and environment.get(PROFILE_VARIABLE) == str(
        share_file(LOOPBACK_PROFILE)
    )


def is_known() -> bool:
    """Return whether this system lists its listening sockets."""
    return Path("/proc/net/udp").exists()


def udp_sockets(process: str = "self") -> Sockets:
    """Return inode and IPv4 address (as in /proc/net/udp) of each UDP socket of a process."""
    inodes = set()
    if not is_known():
        return frozenset()
    for file in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):  # just closed
            inodes.add(str(file.readlink()).removeprefix("socket:[").removesuffix("]"))
    lines = Path(f"/proc/{process}/net/udp").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split() for line in lines]
    return frozenset((row[9], row[1].split(":")[0]) for row in rows if row[9] in inodes)


def strays(before: Sockets) -> list[str]:
    """Return the addresses outside 127.x.x.x of this process's sockets that did not exist `before`."""
    found = {address for _, address in udp_sockets() - before if not address.endswith("7F")}
    return sorted(".".join(str(byte) for byte in reversed(bytes.fromhex(address))) for address in found)


def require_loopback_alone(before: Sockets) -> None:
    """Check that the middleware has opened no interface other than the one in its profile.

    Raises:
        RosEnvironmentError: when it has; lists the addresses.
    """
    if is_meant_to_be_alone() and (found := strays(before)):
        raise RosEnvironmentError(
            f"this process is to keep to this machine, and the middleware listens on {', '.join(found)}: is "
            f"{os.environ[PROFILE_VARIABLE]} readable, and is there another profile in {Path.cwd()}?"
        )
