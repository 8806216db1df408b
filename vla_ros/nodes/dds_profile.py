"""Which Fast DDS profile a process reads: the user's own, or the shipped one that fits what it publishes."""

from __future__ import annotations

from vla_ros.paths import share_file

PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
"""Environment variable that Fast DDS reads when it is loaded."""

IMAGES_PROFILE = "config/dds/shared_memory.xml"
"""64 MiB of shared memory a process, all of it in use from the first moment."""

MESSAGES_PROFILE = "config/dds/messages.xml"
"""The same with 2 MiB."""

DATAGRAMS_PROFILE = "config/dds/datagrams.xml"
"""No shared memory: there a reader that is put aside, or stopped, while it holds the lock of its queue keeps every
writer waiting. Where discovery is limited to this machine, rmw_fastrtps_cpp adds some of its own all the same."""


def profile_for(images: bool, given: str = "", *, shared_memory: bool = True) -> str:
    """Return the path of the profile of a process.

    Args:
        images: It publishes images.
        given: What the environment names; a file that is not one of the shipped ones is the user's choice, and kept.
        shared_memory: It may wait for others.
    """
    shipped = {one: str(share_file(one)) for one in (IMAGES_PROFILE, MESSAGES_PROFILE, DATAGRAMS_PROFILE)}
    if given and given not in shipped.values():
        return given
    if not shared_memory:
        return shipped[DATAGRAMS_PROFILE]
    return shipped[IMAGES_PROFILE if images else MESSAGES_PROFILE]
