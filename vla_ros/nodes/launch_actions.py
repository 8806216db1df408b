"""What the launch files do alike when something is wrong: end with an error, so that whoever started them can tell.

`launch` is imported when a function needs it: machines without it have this package, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from vla_ros.nodes.namesakes import require_alone
from vla_ros.nodes.transitions import GraphError

if TYPE_CHECKING:
    from launch import Action, LaunchContext


_FREE: set[str] = set()
"""Names that this launch has looked for already: a file that includes another one shall not wait twice."""


def end_launch(context: LaunchContext, why: str) -> list[Action]:
    """End the launch with an error (exit code 1), not with the action Shutdown (0); nothing when it ends already.

    Raises:
        GraphError: saying why, which is how a launch file ends a launch.
    """
    if context.is_shutdown:
        return []
    raise GraphError(why)


def required(name: str) -> list[Action]:
    """Return the `on_exit` of a process without which there is no use in going on."""
    from launch.actions import OpaqueFunction

    return [OpaqueFunction(function=lambda context: end_launch(context, f"{name} has ended"))]


def follows_launch() -> str | None:
    """Return the `prefix` of a foreign process that shall end when the launch does, even if that is killed.

    The kernel sees to it, by util-linux' `setpriv`; None where that is not installed. Nodes of this package watch their
    parent themselves.
    """
    return "setpriv --pdeathsig KILL" if shutil.which("setpriv") else None


def looks_for_namesakes(names: Sequence[str]) -> Action:
    """Return what stands before the first process: it ends the launch when nodes of these full names are there."""
    from launch.actions import OpaqueFunction

    return OpaqueFunction(function=lambda context: look_for_namesakes(context, names))


def look_for_namesakes(context: LaunchContext, names: Sequence[str]) -> list[Action]:
    """End the launch when nodes of these full names are there.

    Raises:
        GraphError: naming them, the domain, and what to do.
    """
    if _FREE.issuperset(names):
        return []
    # With a node that is gone again after that: the launch's own is made later, with the DDS profile that is set then.
    visit = Context()
    rclpy.init(context=visit, signal_handler_options=SignalHandlerOptions.NO)
    try:
        require_alone(Node("vla_ros_launch", context=visit, use_global_arguments=False), names)
    except GraphError as error:
        return end_launch(context, str(error))
    finally:
        visit.try_shutdown()
    _FREE.update(names)
    return []
