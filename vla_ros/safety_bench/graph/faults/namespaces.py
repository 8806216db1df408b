"""Network namespace joined to this one by a virtual cable (veth); while the cable is unplugged, nothing gets through.

Needs permission to administer the network (root, or CAP_NET_ADMIN and CAP_SYS_ADMIN) and the tool `ip`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

from vla_ros.ros.transitions import GraphError

PROFILE = """<?xml version="1.0" encoding="UTF-8" ?>
<dds xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"><profiles>
<transport_descriptors><transport_descriptor><transport_id>udp</transport_id><type>UDPv4</type>
</transport_descriptor></transport_descriptors>
<participant profile_name="cabled" is_default_profile="true"><rtps>
<useBuiltinTransports>false</useBuiltinTransports><userTransports><transport_id>udp</transport_id></userTransports>
<builtin><discovery_config><leaseAnnouncement><sec>1</sec></leaseAnnouncement>
<leaseDuration><sec>30</sec></leaseDuration></discovery_config></builtin></rtps></participant></profiles></dds>
"""
"""UDP only, because shared memory bypasses the cable. The lease is longer than the cable is unplugged."""


class Cabled:
    """Network namespace that exists for the duration of a `with` block."""

    def __init__(self, number: int, folder: Path) -> None:
        """Choose the names; `number` (0 to 255) distinguishes several on one machine."""
        self._name, self._here, self._there = f"vla{number}", f"vlah{number}", f"vlat{number}"
        self.address, self.far_address = f"10.213.{number}.1", f"10.213.{number}.2"
        self._profile = folder / "udp.xml"

    @staticmethod
    def possible() -> bool:
        """Return whether this process may create one."""
        return shutil.which("ip") is not None and os.geteuid() == 0

    def __enter__(self) -> Cabled:
        """Create the namespace and plug in the cable.

        Raises:
            GraphError: when the system does not allow it.
        """
        self._profile.parent.mkdir(parents=True, exist_ok=True)
        self._profile.write_text(PROFILE, encoding="utf-8")
        try:
            self._ip("netns", "add", self._name)
            self._ip("link", "add", self._here, "type", "veth", "peer", "name", self._there)
            self._ip("link", "set", self._there, "netns", self._name)
            self._ip("addr", "add", f"{self.address}/24", "dev", self._here)
            self._ip("link", "set", self._here, "up")
            self._inside("link", "set", "lo", "up")
            self._inside("addr", "add", f"{self.far_address}/24", "dev", self._there)
            self._inside("link", "set", self._there, "up")
        except GraphError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the cable and the namespace."""
        for words in (("link", "del", self._here), ("netns", "del", self._name)):
            subprocess.run(["ip", *words], capture_output=True, check=False)

    def prefix(self) -> tuple[str, ...]:
        """Return the command prefix of a process that runs inside."""
        return (
            "ip",
            "netns",
            "exec",
            self._name,
            "env",
            f"FASTRTPS_DEFAULT_PROFILES_FILE={self._profile.resolve()}",
            f"ROS_STATIC_PEERS={self.address}",
        )

    def pull(self, out: bool) -> None:
        """Unplug the cable, or plug it in again."""
        self._ip("link", "set", self._here, "down" if out else "up")

    def _inside(self, *words: str) -> None:
        self._ip("-n", self._name, *words)

    def _ip(self, *words: str) -> None:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise GraphError(f"ip {' '.join(words)}: {done.stderr.strip()}")
