"""Names of all topics, services and actions of the graph, and their remapping into a namespace.

Names in the code are relative (except those in `SHARED`), so a node's namespace applies to them. Names in a contract or
a bridge file are absolute, as drivers use them: the launch files remap them into the namespace.
"""

from __future__ import annotations

import re

from vla_ros.errors import ContractError
from vla_ros.robot.contract import RobotContract

TOPICS = (
    "/vla/action_chunk",
    "/vla/estop",
    "/vla/instruction",
    "/vla/instruction_rejected",
    "/vla/instruction_request",
    "/vla/instruction_status",
    "/vla/observation",
    "/vla/policy_status",
    "/vla/safety_status",
    "/vla/stop_status",
    "/vla/task",
    "/vla/task_status",
)
SERVICES = ("/vla/arm", "/vla/reset", "/vla/selftest", "/sim/reset_scene")
ACTIONS = ("/vla/execute_instruction",)
SIMULATION_TOPICS = ("/robot_description", "/scene/poses", "/gripper/left_contact", "/gripper/right_contact")
SHARED = ("/clock", "/diagnostics", "/tf", "/tf_static")
"""Topics of the machine or the network rather than of one robot: no namespace."""

_ACTION_PARTS = ("send_goal", "get_result", "cancel_goal", "feedback", "status")
_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


def robot_topics(contract: RobotContract) -> tuple[str, ...]:
    """Return the topics named in the contract: cameras, joint states, controllers."""
    cameras = [topic for camera in contract.cameras for topic in (camera.topic, camera.info_topic) if topic]
    return (*cameras, contract.controllers.joint_states_topic, *command_topics(contract))


def command_topics(contract: RobotContract) -> tuple[str, ...]:
    """Return the topics to which all arms' controllers subscribe: for each arm its own, then its gripper's."""
    topics: list[str] = []
    for controllers in (arm.controllers for arm in contract.arms):
        topics.append(controllers.arm_topic)
        if controllers.gripper_interface.is_topic:
            topics.append(controllers.gripper_topic)
    return tuple(topics)


def robot_actions(contract: RobotContract) -> tuple[str, ...]:
    """Return the actions named in the contract: those of grippers commanded by an action."""
    of_arms = (arm.controllers for arm in contract.arms)
    return tuple(one.gripper_topic for one in of_arms if one.gripper_interface.is_action)


def namespaced(name: str, namespace: str) -> str:
    """Return an absolute name in a namespace; "" leaves it unchanged."""
    return f"/{namespace}{name}" if namespace else name


def checked_namespace(namespace: str) -> str:
    """Return a namespace without leading and trailing slashes.

    Raises:
        ContractError: when ROS 2 would reject it.
    """
    bare = namespace.strip("/")
    if bare and not _NAMESPACE.fullmatch(bare):
        raise ContractError(f"namespace '{namespace}': expected letters, digits and _, not beginning with a digit")
    return bare


def remappings(contract: RobotContract, namespace: str) -> list[tuple[str, str]]:
    """Return (name, name in the namespace) for everything of one robot; empty without a namespace.

    Raises:
        ContractError: see `checked_namespace`.
    """
    bare = checked_namespace(namespace)
    if not bare:
        return []
    actions = [f"{action}/_action/{part}" for action in (*ACTIONS, *robot_actions(contract)) for part in _ACTION_PARTS]
    names = dict.fromkeys([*TOPICS, *SERVICES, *actions, *SIMULATION_TOPICS, *robot_topics(contract)])
    return [(name, namespaced(name, bare)) for name in names]
