"""Refuse to load ROS 2 where the environment would end the process silently; provide a folder for its log files.

Measured with Jazzy: a missing middleware ends the process with exit code 102 while rcl is loaded; without a folder for
log files `rclpy.init` raises; without the loopback interface discovery finds no peers and waits.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from vla_ros.domain_id import domain_id_of_shell
from vla_ros.errors import UsageError, VlaError
from vla_ros.paths import expanded, runtime_folder

MIDDLEWARE_VARIABLES = ("RMW_IMPLEMENTATION", "RCL_ASSERT_RMW_ID_MATCHES")
LOG_VARIABLE = "ROS_LOG_DIR"

_INDEX = Path("share", "ament_index", "resource_index", "rmw_typesupport")
_SWITCH = "rmw_implementation"
"""Listed in the index, but it is the loader rather than a middleware."""


class RosEnvironmentError(VlaError, SystemExit):
    """ROS 2 cannot be loaded in this environment.

    Also a `SystemExit`: it is raised while a package is imported, and a process that does not catch it must end with
    this one sentence and exit code 1 instead of a traceback.
    """

    def __init__(self, sentence: str) -> None:
        """Create the error from a sentence that says what is wrong and what to do."""
        super().__init__(sentence)
        self.code = sentence


def installed_middleware(environment: Mapping[str, str] = os.environ) -> set[str]:
    """Return the names of the middleware in the ament index; empty if there is no index."""
    prefixes = filter(None, environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    return {path.name for prefix in prefixes for path in Path(prefix, _INDEX).glob("*")} - {_SWITCH}


def require_middleware(environment: Mapping[str, str] = os.environ) -> None:
    """Check that the requested middleware is installed.

    Raises:
        RosEnvironmentError: when it is not; names it and the installed ones.
    """
    installed = installed_middleware(environment)
    for variable in MIDDLEWARE_VARIABLES:
        name = environment.get(variable)
        if name and installed and name not in installed:
            verb = "is" if len(installed) == 1 else "are"
            raise RosEnvironmentError(f"{variable} names {name}, here {verb} {', '.join(sorted(installed))}: unset it")


def require_log_folder(environment: MutableMapping[str, str] = os.environ) -> None:
    """Provide a folder for ROS 2's log files; fall back if the home folder is missing or not writable.

    Raises:
        RosEnvironmentError: when `ROS_LOG_DIR` is unusable, or no other folder is usable either.
    """
    if chosen := environment.get(LOG_VARIABLE):
        if reason := _unusable(expanded(chosen)):
            raise RosEnvironmentError(
                f"{LOG_VARIABLE} is {chosen}, which cannot be used ({reason}): unset it, or name a folder that you can "
                "write to"
            )
        return
    home = environment.get("ROS_HOME") or (f"{environment['HOME']}/.ros" if environment.get("HOME") else "")
    if home and not _unusable(expanded(home) / "log"):
        return
    try:
        folder = runtime_folder() / "log"
        reason = _unusable(folder)
    except OSError as error:
        folder, reason = Path(str(error.filename)), error.strerror or str(error)
    if reason:
        raise RosEnvironmentError(
            f"there is no folder for the log files of ROS 2: {home or 'HOME is not set'}, and {folder} cannot be used "
            f"({reason}): set {LOG_VARIABLE} to a folder that you can write to"
        )
    environment[LOG_VARIABLE] = str(folder)


def _unusable(folder: Path) -> str:
    """Create a folder and return why it is not writable; "" if it is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return "" if os.access(folder, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)


def require_domain() -> None:
    """Check that `ROS_DOMAIN_ID` is valid.

    Raises:
        RosEnvironmentError: when it is not; says what is expected.
    """
    try:
        domain_id_of_shell()
    except UsageError as error:
        raise RosEnvironmentError(str(error)) from error


def require_loopback() -> None:
    """Check that the loopback interface is up: nodes on one machine discover each other there.

    Raises:
        RosEnvironmentError: when it is down; gives the command that brings it up.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("127.0.0.1", 9))  # sends nothing
        except OSError as error:
            raise RosEnvironmentError(
                f"the loopback interface is down ({error.strerror}), and nodes find each other there: "
                "sudo ip link set lo up"
            ) from error
