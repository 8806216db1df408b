"""Shared actions of the launch files, in particular to end with an error that the caller can detect.

`launch` is imported on demand, because this package is also installed on machines without it.
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

from vla_ros.robot.contract import RobotContract
from vla_ros.ros.graph.duplicate_nodes import require_unique_names
from vla_ros.ros.messages.interfaces import checked_namespace, namespaced, remappings
from vla_ros.ros.transitions import GraphError

if TYPE_CHECKING:
    from launch import Action, LaunchContext


_FREE: set[str] = set()
"""Node names already checked in this launch, so that a file that includes another one does not wait twice."""


def end_launch(context: LaunchContext, why: str) -> list[Action]:
    """End the launch with an error (exit code 1), unlike the action Shutdown (0); no effect if it is ending already.

    Raises:
        GraphError: with the reason; this is how a launch file ends a launch.
    """
    if context.is_shutdown:
        return []
    raise GraphError(why)


def required(name: str) -> list[Action]:
    """Return the `on_exit` action of a process that the launch cannot continue without."""
    from launch.actions import OpaqueFunction

    return [OpaqueFunction(function=lambda context: end_launch(context, f"{name} has ended"))]


def follows_launch() -> str | None:
    """Return the `prefix` for a third-party process that must end with the launch, even if the launch is killed.

    Implemented by the kernel through util-linux' `setpriv`; None if that is not installed. Nodes of this package watch
    their parent themselves.
    """
    return "setpriv --pdeathsig KILL" if shutil.which("setpriv") else None


def is_installed(package: str) -> bool:
    """Return whether a ROS 2 package is installed."""
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        get_package_share_directory(package)
    except PackageNotFoundError:
        return False
    return True


def arm_namespace(context: LaunchContext, namespace: str) -> str:
    """Return an arm's namespace without outer slashes; a relative one is below what `PushRosNamespace` has pushed.

    Raises:
        ContractError: when ROS 2 would not accept it.
    """
    pushed = str(context.launch_configurations.get("ros_namespace", ""))
    bare = checked_namespace(namespace)
    return bare if namespace.startswith("/") else "/".join(filter(None, (pushed.strip("/"), bare)))


@dataclass(frozen=True)
class Arm:
    """The arm that this launch starts: its contract and namespace ("" for none)."""

    contract: RobotContract
    namespace: str

    @property
    def absolute(self) -> str:
        """Absolute namespace for a node, which is not prefixed with a pushed one again."""
        return f"/{self.namespace}" if self.namespace else ""

    @property
    def remappings(self) -> list[tuple[str, str]]:
        """Remappings that move the contract's names into the namespace; rules of SetRemap take precedence."""
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
    """Launch scope in which a file was included, for actions that start later.

    Actions started by an event are outside every group: without this, the settings of `PushRosNamespace`, `SetRemap`
    and `SetParameter` would not apply to them.
    """

    def __init__(self) -> None:
        """Begin empty; put `remember` among the actions of the file, before the first process."""
        self._configurations: dict[str, Any] = {}
        self._environment: dict[str, str] = {}

    def remember(self) -> Action:
        """Return the action that stores the scope it is in."""
        from launch.actions import OpaqueFunction

        return OpaqueFunction(function=self._remember)

    def inside(self, actions: Sequence[Action]) -> list[Action]:
        """Return actions that run as if they were inside the stored scope."""
        from launch.actions import (
            OpaqueFunction,
            PopEnvironment,
            PopLaunchConfigurations,
            PushEnvironment,
            PushLaunchConfigurations,
        )

        enter = OpaqueFunction(function=self._enter)
        return [
            PushLaunchConfigurations(),
            PushEnvironment(),
            enter,
            *actions,
            PopEnvironment(),
            PopLaunchConfigurations(),
        ]

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


def finds_duplicate_nodes(names: Sequence[str], *, own_clock: bool = False) -> Action:
    """Return an action that ends the launch if nodes with these full names exist; put it before the first process.

    With `own_clock`, for a simulation, also if another node publishes /clock.
    """
    from launch.actions import OpaqueFunction

    return OpaqueFunction(function=lambda context: find_duplicate_nodes(context, names, own_clock=own_clock))


def find_duplicate_nodes(context: LaunchContext, names: Sequence[str], *, own_clock: bool = False) -> list[Action]:
    """End the launch if nodes with these full names exist.

    Raises:
        GraphError: names them and the domain, and says what to do.
    """
    if _FREE.issuperset(names):
        return []
    # Uses a temporary node: the launch's own is created later, with the DDS profile that is set by then.
    visit = Context()
    # No arguments: sys.argv is that of `ros2 launch`, whose robot:=panda would be read as a remapping.
    rclpy.init(args=[], context=visit, signal_handler_options=SignalHandlerOptions.NO)
    try:
        visitor = Node("vla_ros_launch", context=visit, use_global_arguments=False)
        require_unique_names(visitor, names, own_clock=own_clock)
    except GraphError as error:
        return end_launch(context, str(error))
    finally:
        visit.try_shutdown()
    _FREE.update(names)
    return []
