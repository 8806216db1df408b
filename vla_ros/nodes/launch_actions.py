"""What the launch files do alike when something is wrong: end with an error, so that whoever started them can tell.

`launch` is imported when a function needs it: machines without it have this package, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import SetBool

from vla_ros.nodes.interfaces import checked_namespace, namespaced, remappings
from vla_ros.nodes.namesakes import require_alone
from vla_ros.nodes.transitions import GraphError
from vla_ros.robot.contract import RobotContract

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


def is_installed(package: str) -> bool:
    """Tell whether a ROS 2 package is there to be launched."""
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        get_package_share_directory(package)
    except PackageNotFoundError:
        return False
    return True


def arm_namespace(context: LaunchContext, namespace: str) -> str:
    """Return the namespace of an arm, without slashes around it: the argument below what `PushRosNamespace` has pushed.

    Raises:
        ContractError: when ROS 2 would not accept it.
    """
    pushed = str(context.launch_configurations.get("ros_namespace", ""))
    bare = checked_namespace(namespace)
    return bare if namespace.startswith("/") else "/".join(filter(None, (pushed.strip("/"), bare)))


@dataclass(frozen=True)
class Arm:
    """The arm that this launch brings up: its contract, and the namespace of its names ("" for none)."""

    contract: RobotContract
    namespace: str

    @property
    def absolute(self) -> str:
        """The namespace as a node takes it, so that it is not put below a pushed one for a second time."""
        return f"/{self.namespace}" if self.namespace else ""

    @property
    def remappings(self) -> list[tuple[str, str]]:
        """What moves the names of the contract into the namespace; rules of SetRemap come before them."""
        return remappings(self.contract, self.namespace)

    def name(self, name: str) -> str:
        """Return an absolute name of the graph in the namespace."""
        return namespaced(name, self.namespace)

    def disarm(self, context: LaunchContext) -> None:
        """Ask the safety node to disarm, so that an operator inspects the failure before arming again."""
        from launch_ros.ros_adapters import get_ros_node

        client = get_ros_node(context).create_client(SetBool, self.name("/vla/arm"))
        client.call_async(SetBool.Request(data=False))


class Group:
    """The group of a launch that a file was included in, for what starts later.

    What an event starts is outside of every group: without this, what `PushRosNamespace`, `SetRemap` and `SetParameter`
    have set would not hold for it.
    """

    def __init__(self) -> None:
        """Know nothing yet; `remember` is to stand among the actions of the file, before the first process."""
        self._configurations: dict[str, Any] = {}
        self._environment: dict[str, str] = {}

    def remember(self) -> Action:
        """Return the action that takes note of the group that it stands in."""
        from launch.actions import OpaqueFunction

        return OpaqueFunction(function=self._remember)

    def inside(self, actions: Sequence[Action]) -> list[Action]:
        """Return actions that are carried out as if they stood in the group."""
        from launch.actions import (
            OpaqueFunction,
            PopEnvironment,
            PopLaunchConfigurations,
            PushEnvironment,
            PushLaunchConfigurations,
        )

        enter = OpaqueFunction(function=self._enter)
        return [PushLaunchConfigurations(), PushEnvironment(), enter, *actions, PopEnvironment(),
                PopLaunchConfigurations()]  # fmt: skip

    def _remember(self, context: LaunchContext) -> list[Action]:
        # Remappings and parameters are lists that later actions append to.
        self._configurations = {
            name: list(value) if isinstance(value, list) else value
            for name, value in context.launch_configurations.items()
        }
        self._environment = dict(context.environment)
        return []

    def _enter(self, context: LaunchContext) -> list[Action]:
        context.launch_configurations.clear()
        context.launch_configurations.update(self._configurations)
        context.environment.update(self._environment)
        return []


def looks_for_namesakes(names: Sequence[str], *, own_clock: bool = False) -> Action:
    """Return what stands before the first process: it ends the launch when nodes of these full names are there.

    With `own_clock`, for a simulation, also when another node publishes /clock.
    """
    from launch.actions import OpaqueFunction

    return OpaqueFunction(function=lambda context: look_for_namesakes(context, names, own_clock=own_clock))


def look_for_namesakes(context: LaunchContext, names: Sequence[str], *, own_clock: bool = False) -> list[Action]:
    """End the launch when nodes of these full names are there.

    Raises:
        GraphError: naming them, the domain, and what to do.
    """
    if _FREE.issuperset(names):
        return []
    # With a node that is gone again after that: the launch's own is made later, with the DDS profile that is set then.
    visit = Context()
    # No arguments: sys.argv is that of `ros2 launch`, whose robot:=panda would be read as a remapping.
    rclpy.init(args=[], context=visit, signal_handler_options=SignalHandlerOptions.NO)
    try:
        visitor = Node("vla_ros_launch", context=visit, use_global_arguments=False)
        require_alone(visitor, names, own_clock=own_clock)
    except GraphError as error:
        return end_launch(context, str(error))
    finally:
        visit.try_shutdown()
    _FREE.update(names)
    return []
