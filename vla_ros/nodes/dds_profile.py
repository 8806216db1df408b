"""Which Fast DDS profile a process reads: the user's own, or the shipped one that fits what it publishes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping

from vla_ros.errors import ContractError
from vla_ros.nodes.graph import NodeDescription
from vla_ros.nodes.loopback import LOOPBACK_PROFILE, PROFILE_VARIABLE, RANGE_VARIABLE
from vla_ros.nodes.loopback import is_known as loopback_is_known
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract

IMAGES_PROFILE = "config/dds/shared_memory.xml"
"""64 MiB of shared memory a process, all of it in use from the first moment."""

SMALL_IMAGES_PROFILE = "config/dds/small_images.xml"
"""The same with 16 MiB."""

MESSAGES_PROFILE = "config/dds/messages.xml"
"""The same with 2 MiB."""

DATAGRAMS_PROFILE = "config/dds/datagrams.xml"
"""No shared memory: there a reader that is preempted, or stopped, while it holds the lock of its queue keeps every
writer waiting. With `LOCALHOST`, rmw_fastrtps_cpp adds some of its own all the same."""

PROFILES = (IMAGES_PROFILE, SMALL_IMAGES_PROFILE, MESSAGES_PROFILE, DATAGRAMS_PROFILE, LOOPBACK_PROFILE)

PEERS_VARIABLE = "ROS_STATIC_PEERS"
"""Environment variable with addresses of other machines to take part with."""

SMALL_SEGMENT = 16 << 20
"""Segment of `SMALL_IMAGES_PROFILE`, bytes."""

IN_FLIGHT = 10
"""Images of each camera that a segment must buffer; `IMAGES_PROFILE` buffers this many of 1920x1080."""

UNKNOWN = math.inf
"""Bytes of images that nobody knows the size of."""

_PIXEL = 4  # bytes; rgba8 is the largest encoding of a color image that a simulator sends


def image_bytes(nodes: Iterable[NodeDescription]) -> float:
    """Return the bytes of one image of every camera, of the largest robot that `nodes` publish images of.

    0 where they publish none; `UNKNOWN` where one that does names no robot contract, or one that cannot be read: the
    node itself says so.
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
    """Return the path of the profile of a process.

    Args:
        images: Bytes of one image of everything that it publishes, see `image_bytes`.
        given: What the environment names; a file that is none of the shipped ones is the user's choice, and kept.
        shared_memory: It may wait for others.
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
    """Return the variables with which a process takes part on this machine alone; `images` as of `profile_for`.

    Who names peers elsewhere (`ROS_STATIC_PEERS`) reaches them: `LOCALHOST` heeds them, and the loopback interface
    leads nowhere. So it is with another middleware, which reads no profile of Fast DDS, and where nobody can check
    that the profile has been read.
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
    obsolete = {"ROS_LOCALHOST_ONLY": "0"} if base.get("ROS_LOCALHOST_ONLY") else {}  # 1 overrules the range
    return {
        **obsolete,
        PROFILE_VARIABLE: str(share_file(LOOPBACK_PROFILE)),
        RANGE_VARIABLE: "SYSTEM_DEFAULT",
        "SKIP_DEFAULT_XML_FILE": "1",  # a profile of that name in the working directory would come before this one
    }


def launch_environment(
    images: float, base: Mapping[str, str] = os.environ, *, shared_memory: bool = True
) -> dict[str, str]:
    """Return the same for a process of a launch, whose user may have limited discovery to this machine or not."""
    if base.get(RANGE_VARIABLE) == "LOCALHOST" or base.get("ROS_LOCALHOST_ONLY") == "1":
        return local_environment(images, base, shared_memory=shared_memory)
    return {PROFILE_VARIABLE: profile_for(images, base.get(PROFILE_VARIABLE, ""), shared_memory=shared_memory)}
