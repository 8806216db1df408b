"""Brings up the graph of config/graph.yaml: every process, then configure and activate in the order of that file.

    ros2 launch vla_ros bringup.launch.py robot:=panda policy:=checkpoints/pick use_sim_time:=false

The robot's own controllers, or a simulator, run beside it. Included under PushRosNamespace, every name of the arm is in
that namespace, as with the argument `namespace`; SetRemap and SetParameter apply to all of its nodes. Before anything
but the simulated robot is activated, `preflight` checks every camera, the joint states and the controllers, and ends
the launch naming what is missing.
Nothing moves before the robot is armed: by hand (/vla/arm), or by arm:=true. A crashed node that may restart is
activated again, and the robot is disarmed. A required node that ends, or one that cannot be configured, ends the launch
with its reason: with an error (exit code 1), not with the action Shutdown (exit code 0), so that the caller can tell.
No node outlives the launch, however that ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.actions import (
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    TimerAction,
)
from launch.event_handlers import OnProcessIO, OnProcessStart
from launch.events import matches_action
from launch.events.process import ProcessExited, ProcessIO
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from launch import Action, LaunchContext, LaunchDescription
from vla_ros.bringup.launch_actions import (
    Arm,
    Group,
    arm_namespace,
    end_launch,
    finds_duplicate_nodes,
    follows_launch,
    is_installed,
    required,
)
from vla_ros.bringup.launch_arguments import (
    GRAPH,
    LOG_LEVEL,
    NAMESPACE,
    PARAMS_FILE,
    PREFLIGHT,
    SIMULATION,
    declare,
    given,
    given_flag,
    graph_arguments,
    graph_texts,
    graph_values,
    transform_source,
)
from vla_ros.bringup.launch_files import temporary_file
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.link_frames import complete_description
from vla_ros.ros.dds.profile import IMAGES_PROFILE, PROFILE_VARIABLE, image_bytes, launch_environment
from vla_ros.ros.graph.description import NodeDescription, load_graph
from vla_ros.ros.graph.processes import ProcessDescription, processes_of
from vla_ros.ros.parameter_files import parameters_file
from vla_ros.ros.process import PARENT

TRANSFORMS = "robot_state_publisher"  # the package, its executable and its node
DDS_PROFILE = IMAGES_PROFILE
RESPAWN_DELAY = 1.0  # s
ASK_AGAIN = 3.0  # s; a request to a restarted process can reach the dead one's service instead
ASK_AGAIN_TIMES = 20
LAST_WORDS = 0.5  # s, time for the log of a failed node to arrive here
SPEAKS_OF_FAILURE = ("cannot configure", "cannot activate")


class LifecycleOrder:
    """Configures all nodes one after the other, then activates them in the same order; restarted nodes catch up.

    The simulated robot is activated first; everything else waits for `ready`, which the preflight calls.
    """

    def __init__(self, nodes: list[LifecycleNode], first: int, arm: Arm, processes: list[Node] | None = None) -> None:
        """Order the `nodes` of one arm, of which the first `first` are the simulated robot.

        `processes` are the actions that start each node's process; by default every node has its own.
        """
        self.nodes, self.first, self._arm = nodes, first, arm
        self.processes = processes or nodes
        self.is_up = False
        self.is_ready = False
        self.preflight: list[Action] = []
        self._waiting_for_ready = False
        self.starts = [0] * len(nodes)
        self.is_configured = [False] * len(nodes)
        self.comes_back = [False] * len(nodes)  # restarted, and not active yet
        self.last_words = [""] * len(nodes)

    def handlers(self) -> list[RegisterEventHandler]:
        """Return the handlers of starts, transitions and errors of the nodes."""
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
            started, process = OpaqueFunction(function=self._after_start, args=[index]), self.processes[index]
            registered.append(RegisterEventHandler(OnProcessStart(target_action=process, on_start=[started])))
            listen = self._listener(index)
            heard = OnProcessIO(target_action=process, on_stdout=listen, on_stderr=listen)
            registered.append(RegisterEventHandler(heard))
        return registered

    def ready(self, context: LaunchContext) -> list[Action]:
        """Continue: everything that the contract names is available."""
        del context
        self.is_ready = True
        return [self._ask(self.first, Transition.TRANSITION_ACTIVATE)] if self._waiting_for_ready else []

    def _listener(self, index: int) -> Callable[[ProcessIO], None]:
        def listen(event: ProcessIO) -> None:
            logger = self.nodes[index].node_name.strip("/").replace("/", ".")
            for line in event.text.decode(errors="replace").splitlines():
                # In a shared process only lines of the node's own logger count.
                own = self.processes[index] is self.nodes[index] or f"[{logger}]: " in line
                if own and any(words in line for words in SPEAKS_OF_FAILURE):
                    self.last_words[index] = line.split("]: ", 1)[-1]

        return listen

    def _after_start(self, context: LaunchContext, index: int) -> list[Action]:
        self.starts[index] += 1
        self.is_configured[index] = False
        if self.starts[index] > 1:
            self.comes_back[index] = True
            self._arm.disarm(context)
            return self._ask_until_configured(context, index, self.starts[index], ASK_AGAIN_TIMES)
        return [self._ask(0, Transition.TRANSITION_CONFIGURE)] if all(self.starts) else []

    def _ask_until_configured(self, context: LaunchContext, index: int, start: int, times: int) -> list[Action]:
        if self.is_configured[index] or self.starts[index] != start or times == 0:
            return []
        again = OpaqueFunction(function=self._ask_until_configured, args=[index, start, times - 1])
        return [self._ask(index, Transition.TRANSITION_CONFIGURE), TimerAction(period=ASK_AGAIN, actions=[again])]

    def _after_configuring(self, context: LaunchContext, index: int) -> list[Action]:
        self.is_configured[index] = True
        if self.comes_back[index]:
            return [self._ask(index, Transition.TRANSITION_ACTIVATE)]
        if self.is_up:  # an operator configures it, for example with another policy, and will activate it
            return []
        if index + 1 < len(self.nodes):
            return [self._ask(index + 1, Transition.TRANSITION_CONFIGURE)]
        return self._activate(0)

    def _activate(self, index: int) -> list[Action]:
        """Activate the next node, unless the preflight has not finished yet."""
        if index < self.first or self.is_ready:
            return [self._ask(index, Transition.TRANSITION_ACTIVATE)]
        self._waiting_for_ready = True
        return self.preflight if self.first else []

    def _after_activating(self, context: LaunchContext, index: int) -> list[Action]:
        self.comes_back[index] = False
        if self.is_up:
            return []
        if index + 1 < len(self.nodes):
            return self._activate(index + 1)
        self.is_up = True
        said, armed = self._arm.name("/vla/instruction"), self._arm.name("/vla/arm")
        return [LogInfo(msg=f"every node is active: publish a sentence on {said}, call {armed}")]

    def _after_failing(self, context: LaunchContext, index: int) -> list[Action]:
        """End the launch: an incomplete graph must not look as if it worked.

        Not when an operator has deactivated a node and requests a transition that it refuses: the node answers that.
        """
        if self.is_up and not self.comes_back[index]:
            return []
        return [TimerAction(period=LAST_WORDS, actions=[OpaqueFunction(function=self._give_up, args=[index])])]

    def _give_up(self, context: LaunchContext, index: int) -> list[Action]:
        why = self.last_words[index] or "its log says why"
        return end_launch(context, f"{self.nodes[index].node_name} could not be brought up: {why}")

    def _ask(self, index: int, transition: int) -> EmitEvent:
        matcher = matches_action(self.nodes[index])
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matcher, transition_id=transition))


def process(description: NodeDescription, arm: Arm, log_level: str, file: Path | None = None) -> LifecycleNode:
    """Return the launch action of one node of the graph; `file` holds parameters that the arguments do not set."""
    common = _process_arguments(description, arm, log_level, [file, dict(description.parameters)])
    return LifecycleNode(name=description.name, **common)


def shared_process(description: ProcessDescription, arm: Arm, log_level: str, file: Path | None = None) -> Node:
    """Return the launch action of a process shared by several nodes; their own actions start no process."""
    own = temporary_file(description.parameter_file(arm.namespace), ".yaml")
    common = _process_arguments(description, arm, log_level, [file, own])
    common["ros_arguments"] += [word for rule in description.rules() for word in ("-r", rule)]
    return Node(exec_name=description.name, arguments=description.arguments(), **common)


def _process_arguments(
    description: NodeDescription | ProcessDescription,
    arm: Arm,
    log_level: str,
    parameters: Sequence[Path | Mapping[str, Any] | None],
) -> dict[str, Any]:
    """Return the launch arguments common to every process, with its exit and restart behavior."""
    nodes = description.nodes if isinstance(description, ProcessDescription) else (description,)
    return {
        "package": "vla_ros",
        "executable": description.executable,
        "namespace": arm.absolute,
        "remappings": arm.remappings,
        "parameters": [one for one in parameters if one is not None],
        "ros_arguments": ["--log-level", log_level],
        "additional_env": {
            PARENT: str(os.getpid()),
            **launch_environment(image_bytes(nodes), shared_memory=description.shared_memory),
        },
        "output": "screen",
        "respawn": description.restarts > 0,
        "respawn_delay": RESPAWN_DELAY,
        "respawn_max_retries": description.restarts,
        "on_exit": required(description.name) if description.required else None,
    }


class _NoProcess(Node):
    """Prevents `LifecycleNode` from starting a process."""

    def execute(self, context: LaunchContext) -> None:
        """Start nothing."""


class SharingNode(LifecycleNode, _NoProcess):
    """A managed node that runs in a process started by another action."""

    def __init__(self, description: NodeDescription, arm: Arm) -> None:
        """Observe and change its state, as `LifecycleNode` does."""
        super().__init__(
            package="vla_ros",
            executable=description.executable,
            name=description.name,
            namespace=arm.absolute,
        )


def processes(
    descriptions: Sequence[NodeDescription], arm: Arm, log_level: str, file: Path | None
) -> tuple[list[LifecycleNode], list[Node]]:
    """Return the launch actions of the nodes of the graph, and of the process of each."""
    nodes: dict[str, LifecycleNode] = {}
    hosts: dict[str, Node] = {}
    for one in processes_of(descriptions):
        host = shared_process(one, arm, log_level, file) if one.shared else None
        for node in one.nodes:
            nodes[node.name] = SharingNode(node, arm) if host else process(node, arm, log_level, file)
            hosts[node.name] = host or nodes[node.name]
    return [nodes[one.name] for one in descriptions], [hosts[one.name] for one in descriptions]


def transforms(arm: Arm, *, use_sim_time: bool) -> Node:
    """Return `robot_state_publisher` for this arm, its cameras included."""
    return Node(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        name=TRANSFORMS,
        namespace=arm.absolute,
        remappings=[("joint_states", arm.name(arm.contract.controllers.joint_states_topic)), *arm.remappings],
        prefix=follows_launch(),
        parameters=[{"robot_description": complete_description(arm.contract), "use_sim_time": use_sim_time}],
        output="screen",
    )


def preflight(arm: Arm, parameters: Mapping[str, Any], order: LifecycleOrder, file: Path | None) -> Node:
    """Return the process that checks everything that the contract names, and then releases the other nodes."""

    def after(event: ProcessExited, context: LaunchContext) -> list[Action]:
        if event.returncode == 0 and not context.is_shutdown:
            return order.ready(context)
        why = f"robot '{arm.contract.name}' is not complete, see the lines of preflight: nothing was activated"
        return end_launch(context, why)

    return Node(
        package="vla_ros",
        executable="preflight",
        name="preflight",
        namespace=arm.absolute,
        remappings=arm.remappings,
        parameters=[*([file] if file else []), dict(parameters)],
        output="screen",
        on_exit=after,
    )


def bring_up(context: LaunchContext) -> list[Action]:
    """Return the actions for the given arguments."""
    text = given(context)
    graph = load_graph(text("graph"))
    simulation = "" if text("simulation") == "none" else text("simulation")
    texts = graph_texts(graph, context.launch_configurations)
    if "tf" in texts:
        texts["tf"] = transform_source(texts["tf"], simulation, installed=is_installed(TRANSFORMS))
    descriptions = graph.resolve(graph_values(texts, simulation), simulation=simulation)
    arm = Arm(load_contract(texts["robot"]), arm_namespace(context, text("namespace")))
    Kinematics(arm.contract)  # reject a contract that contradicts its description before any process starts
    safety = next((one.parameters for one in descriptions if one.name == "safety_node"), {})
    simulated = safety.get("use_sim_time", graph_values(texts, simulation).get("use_sim_time") == "true")
    looking = {"robot": texts["robot"], "use_sim_time": simulated}  # parameters of the preflight
    given_file = {one.name: one.parameters for one in descriptions} | {"preflight": looking}
    file = parameters_file(text("params_file"), given_file, arm.namespace, [one.name for one in graph.nodes])
    nodes, hosts = processes(descriptions, arm, text("log_level"), file)
    first = sum(description.simulation == "mujoco" for description in descriptions)
    order, group = LifecycleOrder(nodes, first, arm, hosts), Group()
    actions: list[Action] = []
    if not os.environ.get(PROFILE_VARIABLE):
        actions.append(SetEnvironmentVariable(PROFILE_VARIABLE, str(share_file(DDS_PROFILE))))
    actions.append(group.remember())
    names, beside = [one.name for one in descriptions], list[Action]()
    if texts.get("tf") == TRANSFORMS:
        names.append(TRANSFORMS)
        beside.append(transforms(arm, use_sim_time=graph_values(texts, simulation).get("use_sim_time") == "true"))
    actions.append(finds_duplicate_nodes([arm.name(f"/{name}") for name in names], own_clock=first > 0))
    if given_flag(context, "preflight"):
        order.preflight = group.inside([preflight(arm, looking, order, file)])
        if not first:  # a simulated robot publishes only when it is active; a real one, or Gazebo, already does
            actions += order.preflight
    else:
        order.is_ready = True
    return [*actions, *order.handlers(), *dict.fromkeys([*nodes, *hosts]), *beside]


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch` runs."""
    own = (GRAPH, SIMULATION, NAMESPACE, LOG_LEVEL, PREFLIGHT, PARAMS_FILE)
    return LaunchDescription([*declare(*own, *graph_arguments()), OpaqueFunction(function=bring_up)])
