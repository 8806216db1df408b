"""Select a process's Fast DDS profile: the user's own, or the shipped one that fits what it publishes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract
from vla_ros.ros.dds.loopback import LOOPBACK_PROFILE, PROFILE_VARIABLE, RANGE_VARIABLE
from vla_ros.ros.dds.loopback import is_known as loopback_is_known
from vla_ros.ros.graph.description import NodeDescription

IMAGES_PROFILE = "config/dds/shared_memory.xml"
"""Profile with 64 MiB of shared memory per process, all of it in use from the start."""

SMALL_IMAGES_PROFILE = "config/dds/small_images.xml"
"""Like `IMAGES_PROFILE`, with 16 MiB."""

MESSAGES_PROFILE = "config/dds/messages.xml"
"""Like `IMAGES_PROFILE`, with 2 MiB."""

DATAGRAMS_PROFILE = "config/dds/datagrams.xml"
"""Profile without shared memory, in which a reader that is preempted or stopped while it holds its queue's lock blocks
every writer. With `LOCALHOST`, rmw_fastrtps_cpp adds some shared memory all the same.
"""

PROFILES = (IMAGES_PROFILE, SMALL_IMAGES_PROFILE, MESSAGES_PROFILE, DATAGRAMS_PROFILE, LOOPBACK_PROFILE)

PEERS_VARIABLE = "ROS_STATIC_PEERS"
"""Environment variable with the addresses of peers on other machines."""

SMALL_SEGMENT = 16 << 20
"""Segment size of `SMALL_IMAGES_PROFILE`, bytes."""

IN_FLIGHT = 10
"""Number of images per camera that a segment must buffer; `IMAGES_PROFILE` buffers this many of 1920x1080."""

UNKNOWN = math.inf
"""Image size when it is not known, bytes."""

_PIXEL = 4  # bytes; rgba8 is the largest encoding of a simulator's color images


def image_bytes(nodes: Iterable[NodeDescription]) -> float:
    """Return the size of one image from every camera, in bytes, for the largest robot whose images `nodes` publish.

    Returns 0 if they publish none, and `UNKNOWN` if one that does names no robot contract or one that cannot be read;
    the node itself reports that.
    """
    largest = 0.0
    for node in nodes:
        if not node.images:
            continue
        robot = node.parameters.get("robot")
        if not isinstance(robot, str):
            return UNKNOWN
        try:
            cameras = load_contract(robot).cameras
        except ContractError:
            return UNKNOWN
        sizes = (max(one.width * one.height, one.policy_width * one.policy_height) for one in cameras)
        largest = max(largest, float(_PIXEL * sum(sizes)), 1.0)
    return largest


def profile_for(images: float, given: str = "", *, shared_memory: bool = True) -> str:
    """Return the path of the profile for a process.

    Args:
        images: Size of one image of everything it publishes, bytes; see `image_bytes`.
        given: Profile set in the environment; kept as the user's choice unless it is one of the shipped ones.
        shared_memory: Whether the process may block on others.
    """
    shipped = {one: str(share_file(one)) for one in PROFILES}
    if given and given not in shipped.values():
        return given
    if not shared_memory:
        return shipped[DATAGRAMS_PROFILE]
    if images == 0.0:
        return shipped[MESSAGES_PROFILE]
    return shipped[SMALL_IMAGES_PROFILE if IN_FLIGHT * images <= SMALL_SEGMENT else IMAGES_PROFILE]


def local_environment(
    images: float, base: Mapping[str, str] = os.environ, *, shared_memory: bool = True
) -> dict[str, str]:
    """Return the environment variables for a process that communicates on this machine only.

    `images` is as in `profile_for`. Falls back to `LOCALHOST` discovery instead of the loopback interface if the user
    names peers on other machines (`ROS_STATIC_PEERS`), which only `LOCALHOST` respects; with another middleware, which
    does not read Fast DDS profiles; and where it cannot be verified that the profile has been read.
    """
    profile = profile_for(images, base.get(PROFILE_VARIABLE, ""), shared_memory=shared_memory)
    fast_dds = base.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    if (
        profile != str(share_file(DATAGRAMS_PROFILE))
        or base.get(PEERS_VARIABLE)
        or not fast_dds.startswith("rmw_fastrtps")
        or not loopback_is_known()
    ):
        return {PROFILE_VARIABLE: profile, RANGE_VARIABLE: "LOCALHOST"}
    obsolete = {"ROS_LOCALHOST_ONLY": "0"} if base.get("ROS_LOCALHOST_ONLY") else {}  # 1 overrides the range
    return {
        **obsolete,
        PROFILE_VARIABLE: str(share_file(LOOPBACK_PROFILE)),
        RANGE_VARIABLE: "SYSTEM_DEFAULT",
        "SKIP_DEFAULT_XML_FILE": "1",  # a default profile in the working directory would take precedence
    }


def launch_environment(
    images: float, base: Mapping[str, str] = os.environ, *, shared_memory: bool = True
) -> dict[str, str]:
    """Return the same for a process of a launch file, which may or may not be limited to this machine."""
    if base.get(RANGE_VARIABLE) == "LOCALHOST" or base.get("ROS_LOCALHOST_ONLY") == "1":
        return local_environment(images, base, shared_memory=shared_memory)
    return {PROFILE_VARIABLE: profile_for(images, base.get(PROFILE_VARIABLE, ""), shared_memory=shared_memory)}
