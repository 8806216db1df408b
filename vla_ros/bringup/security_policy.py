"""SROS2 access control policy of the graph: one enclave per node, from one table. Imports no ROS.

With it and a DDS with security built in, a participant without a certificate is not even discovered, and one with
another node's certificate cannot publish robot commands: only the safety node has that right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from vla_ros.robot.contract import RobotContract
from vla_ros.ros.messages.interfaces import checked_namespace, command_topics, namespaced, robot_actions

ENCLAVES = "/vla_ros"
"""Parent of the nodes' enclaves; with the node's name it forms the value of `--enclave`."""

OPERATOR = "operator"
"""Enclave of programs that send instructions, arm and stop: `vla-ros say`, a console, an emergency stop button."""

PARAMETERS = (
    "describe_parameters",
    "get_parameter_types",
    "get_parameters",
    "get_type_description",
    "list_parameters",
    "set_parameters",
    "set_parameters_atomically",
)
LIFECYCLE = ("change_state", "get_available_states", "get_available_transitions", "get_state", "get_transition_graph")


@dataclass(frozen=True)
class Rights:
    """Topics, services and actions that one node may use, by absolute name.

    Attributes:
        publish: Topics.
        subscribe: Topics.
        reply: Services that it offers.
        request: Services that it calls.
        execute: Actions that it offers.
        call: Actions that it calls.
    """

    publish: Sequence[str] = ()
    subscribe: Sequence[str] = ()
    reply: Sequence[str] = ()
    request: Sequence[str] = ()
    execute: Sequence[str] = ()
    call: Sequence[str] = ()


def rights_of_the_graph(contract: RobotContract) -> dict[str, Rights]:
    """Return the minimal rights by node name."""
    controllers = contract.controllers
    images = [camera.topic for camera in contract.cameras]
    infos = [camera.info_topic for camera in contract.cameras if camera.info_topic]
    goals = robot_actions(contract)
    commands = command_topics(contract)
    states, nodes = (
        controllers.joint_states_topic,
        ("perception_node", "instruction_node", "safety_node", "policy_node", "action_node"),
    )
    return {
        "perception_node": Rights(publish=["/vla/observation"], subscribe=[*images, states]),
        "instruction_node": Rights(
            publish=["/vla/task", "/vla/instruction_rejected", "/vla/instruction_status"],
            subscribe=["/vla/instruction", "/vla/instruction_request"],
        ),
        "safety_node": Rights(
            publish=[*commands, "/vla/safety_status", "/vla/stop_status"],
            subscribe=[
                states,
                "/vla/action_chunk",
                "/vla/policy_status",
                "/vla/task",
                "/vla/estop",
                "/vla/instruction",
                "/vla/instruction_request",
                "/vla/instruction_status",
            ],
            reply=["/vla/arm", "/vla/reset", "/vla/selftest"],
            call=goals,
        ),
        "policy_node": Rights(
            publish=["/vla/action_chunk", "/vla/policy_status"], subscribe=["/vla/observation", "/vla/task"]
        ),
        "action_node": Rights(
            publish=["/vla/instruction"],
            subscribe=[
                "/vla/task",
                "/vla/instruction_rejected",
                "/vla/safety_status",
                "/vla/policy_status",
                "/vla/task_status",
            ],
            execute=["/vla/execute_instruction"],
        ),
        "transform_node": Rights(
            publish=["/tf", "/tf_static", "/robot_description"], subscribe=[states, "/tf", "/tf_static"]
        ),
        "trace_node": Rights(
            subscribe=[
                "/vla/task",
                "/vla/instruction",
                "/vla/instruction_request",
                "/vla/instruction_rejected",
                "/vla/instruction_status",
                "/vla/stop_status",
                "/vla/action_chunk",
                "/vla/policy_status",
                "/vla/safety_status",
                "/vla/task_status",
                "/vla/estop",
                "/vla/observation",
                "/diagnostics",
            ],
        ),
        "console_node": Rights(
            publish=["/vla/instruction_request", "/vla/estop"],
            subscribe=[
                "/vla/task",
                "/vla/instruction_rejected",
                "/vla/instruction_status",
                "/vla/stop_status",
                "/vla/action_chunk",
                "/vla/policy_status",
                "/vla/safety_status",
                "/vla/task_status",
                "/vla/observation",
                "/diagnostics",
                *images,
            ],
            request=["/vla/arm", "/vla/reset"],
        ),
        OPERATOR: Rights(
            publish=["/vla/instruction", "/vla/instruction_request", "/vla/estop"],
            subscribe=[
                "/vla/task",
                "/vla/instruction_rejected",
                "/vla/instruction_status",
                "/vla/safety_status",
                "/vla/stop_status",
                "/vla/policy_status",
                "/vla/task_status",
                "/vla/action_chunk",
                "/diagnostics",
                "/tf",
                "/tf_static",
                "/robot_description",
                states,
                *images,
            ],
            request=[
                "/vla/arm",
                "/vla/reset",
                "/vla/selftest",
                "/sim/reset_scene",
                *(f"/{node}/{service}" for node in nodes for service in LIFECYCLE),
            ],
            call=["/vla/execute_instruction"],
        ),
        # Robot side: a driver with its controllers and cameras, or a simulator in their place.
        "robot": Rights(
            publish=[*images, *infos, states, "/robot_description", "/clock", "/vla/task_status", "/tf", "/tf_static"],
            subscribe=[*commands, "/vla/task", "/vla/action_chunk", "/vla/policy_status", "/tf", "/tf_static"],
            reply=["/sim/reset_scene"],
            execute=goals,
        ),
    }


def policy(contract: RobotContract, namespace: str = "") -> str:
    """Return the policy as XML for `ros2 security generate_artifacts --policy-files`."""
    bare = checked_namespace(namespace)
    root = ElementTree.Element("policy", {"version": "0.2.0"})
    enclaves = ElementTree.SubElement(root, "enclaves")
    for node, rights in rights_of_the_graph(contract).items():
        enclave = ElementTree.SubElement(enclaves, "enclave", {"path": f"{ENCLAVES}/{node}"})
        profiles = ElementTree.SubElement(enclave, "profiles")
        profile = ElementTree.SubElement(profiles, "profile", {"ns": f"/{bare}", "node": node})
        managed = node not in (OPERATOR, "robot")
        publish = ["/rosout", "/parameter_events", *(["/diagnostics", "~/transition_event"] if managed else [])]
        reply = [f"~/{service}" for service in (*PARAMETERS, *(LIFECYCLE if managed else ()))]
        _add(profile, "services", "reply", "service", [*_in(bare, rights.reply), *reply])
        _add(profile, "services", "request", "service", _in(bare, rights.request))
        _add(profile, "topics", "publish", "topic", [*_in(bare, rights.publish), *publish])
        _add(profile, "topics", "subscribe", "topic", [*_in(bare, rights.subscribe), "/clock", "/parameter_events"])
        _add(profile, "actions", "execute", "action", _in(bare, rights.execute))
        _add(profile, "actions", "call", "action", _in(bare, rights.call))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _in(namespace: str, names: Sequence[str]) -> list[str]:
    shared = ("/clock", "/diagnostics", "/tf", "/tf_static")
    return [name if name in shared else namespaced(name, namespace) for name in names]


def _add(profile: ElementTree.Element, group: str, right: str, kind: str, names: Sequence[str]) -> None:
    if not names:
        return
    element = ElementTree.SubElement(profile, group, {right: "ALLOW"})
    for name in sorted(dict.fromkeys(names)):
        ElementTree.SubElement(element, kind).text = name
