"""Brings up the graph of config/graph.yaml: every process, then configure and activate in the order of that file.

    ros2 launch vla_ros bringup.launch.py robot:=panda policy:=checkpoints/pick

The robot's own controllers, or a simulator, run beside it; `simulation_mujoco.launch.py` includes this file with the
MuJoCo cell. A node that may start again is brought to the active state again; a required one that ends, or one that
cannot be configured, ends the launch.
"""

from __future__ import annotations

import os

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from launch import Action, LaunchContext, LaunchDescription
from vla_ros.nodes.graph import NodeDescription, load_graph
from vla_ros.paths import share_file

DDS_PROFILE = "config/dds/shared_memory.xml"
RESPAWN_DELAY = 1.0  # s
ASK_AGAIN = 3.0  # s; a request to a process that has just started again can reach the dead one's service instead
ASK_AGAIN_TIMES = 20


class LifecycleOrder:
    """Configures all nodes one after the other, then activates them likewise; later starts catch up by themselves."""

    def __init__(self, nodes: list[LifecycleNode]) -> None:
        self.nodes = nodes
        self.is_up = False
        self.starts = [0] * len(nodes)
        self.is_configured = [False] * len(nodes)

    def handlers(self) -> list[RegisterEventHandler]:
        """Return what reacts to the starts and transitions of the nodes."""
        registered = []
        for index, node in enumerate(self.nodes):
            reactions = {
                ("configuring", "inactive"): self._after_configuring,
                ("activating", "active"): self._after_activating,
                ("configuring", "unconfigured"): self._after_failing,
                ("activating", "inactive"): self._after_failing,
            }
            for (start, goal), reaction in reactions.items():
                handler = OnStateTransition(
                    target_lifecycle_node=node,
                    start_state=start,
                    goal_state=goal,
                    entities=[OpaqueFunction(function=reaction, args=[index])],
                )
                registered.append(RegisterEventHandler(handler))
            started = OpaqueFunction(function=self._after_start, args=[index])
            registered.append(RegisterEventHandler(OnProcessStart(target_action=node, on_start=[started])))
        return registered

    def _after_start(self, context: LaunchContext, index: int) -> list[Action]:
        self.starts[index] += 1
        self.is_configured[index] = False
        if self.starts[index] > 1:
            return self._ask_until_configured(context, index, self.starts[index], ASK_AGAIN_TIMES)
        return [self._ask(0, Transition.TRANSITION_CONFIGURE)] if all(self.starts) else []

    def _ask_until_configured(self, context: LaunchContext, index: int, start: int, times: int) -> list[Action]:
        if self.is_configured[index] or self.starts[index] != start or times == 0:
            return []
        again = OpaqueFunction(function=self._ask_until_configured, args=[index, start, times - 1])
        return [self._ask(index, Transition.TRANSITION_CONFIGURE), TimerAction(period=ASK_AGAIN, actions=[again])]

    def _after_configuring(self, context: LaunchContext, index: int) -> list[Action]:
        self.is_configured[index] = True
        if self.is_up or self.starts[index] > 1:
            return [self._ask(index, Transition.TRANSITION_ACTIVATE)]
        if index + 1 < len(self.nodes):
            return [self._ask(index + 1, Transition.TRANSITION_CONFIGURE)]
        return [self._ask(0, Transition.TRANSITION_ACTIVATE)]

    def _after_activating(self, context: LaunchContext, index: int) -> list[Action]:
        if self.is_up:
            return []
        if index + 1 < len(self.nodes):
            return [self._ask(index + 1, Transition.TRANSITION_ACTIVATE)]
        self.is_up = True
        return [LogInfo(msg="every node is active: publish a sentence on /vla/instruction, call /vla/arm")]

    def _after_failing(self, context: LaunchContext, index: int) -> list[Action]:
        """End the launch: a graph with a part missing must not look as if it worked."""
        reason = f"{self.nodes[index].node_name} could not be brought up; its log says why"
        return [LogInfo(msg=reason), Shutdown(reason=reason)]

    def _ask(self, index: int, transition: int) -> EmitEvent:
        matcher = matches_action(self.nodes[index])
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matcher, transition_id=transition))


def process(description: NodeDescription) -> LifecycleNode:
    """Return the launch action of one node of the graph."""
    reason = f"{description.name} has ended"

    def end_launch(context: LaunchContext) -> list[Action]:
        return [] if context.is_shutdown else [Shutdown(reason=reason)]

    return LifecycleNode(
        package="vla_ros",
        executable=description.executable,
        name=description.name,
        namespace="",
        parameters=[dict(description.parameters)],
        output="screen",
        respawn=description.restarts > 0,
        respawn_delay=RESPAWN_DELAY,
        respawn_max_retries=description.restarts,
        on_exit=[OpaqueFunction(function=end_launch)] if description.required else None,
    )


def bring_up(context: LaunchContext) -> list[Action]:
    """Return the actions for the arguments that the user gave."""
    graph = load_graph(LaunchConfiguration("graph").perform(context))
    arguments = {name: LaunchConfiguration(name).perform(context) for name in graph.arguments}
    with_cell = LaunchConfiguration("simulation").perform(context).lower() == "true"
    nodes = [process(description) for description in graph.resolve(arguments, simulation=with_cell)]
    actions: list[Action] = []
    if not os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE"):
        actions.append(SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", str(share_file(DDS_PROFILE))))
    return [*actions, *LifecycleOrder(nodes).handlers(), *nodes]


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch` runs."""
    graph = load_graph()
    defaults = {name: str(value).lower() if isinstance(value, bool) else str(value)
                for name, value in graph.arguments.items()}  # fmt: skip
    return LaunchDescription(
        [
            DeclareLaunchArgument("graph", default_value="config/graph.yaml", description="what runs"),
            DeclareLaunchArgument("simulation", default_value="false", description="with the MuJoCo cell"),
            *(DeclareLaunchArgument(name, default_value=value) for name, value in defaults.items()),
            OpaqueFunction(function=bring_up),
        ]
    )
