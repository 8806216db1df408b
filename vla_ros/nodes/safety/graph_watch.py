"""Checks the safety node's topics in the graph: unauthorized publishers, missing controllers, quality of service."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from vla_ros.errors import ContractError
from vla_ros.nodes.safety.command_listeners import may_be_controller
from vla_ros.nodes.safety.orders import INSTRUCTION_STATUS_TOPIC
from vla_ros.nodes.safety.polling import CHUNK_TOPIC, HEARTBEAT_TOPIC, TASK_TOPIC
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.clock.publishers import NAMELESS, several_clocks
from vla_ros.ros.messages.interfaces import robot_actions
from vla_ros.ros.qos import qos
from vla_ros.safety.reasons import Reason


class GraphWatch:
    """Queries the middleware's view of the graph; cheap, and never blocks."""

    def __init__(self, node: Node, contract: RobotContract) -> None:
        """Query the graph through `node`."""
        self._node = node
        self._own = f"{node.get_namespace().rstrip('/')}/{node.get_name()}"
        arms = [arm.controllers for arm in contract.arms]
        topics = [topic for one in arms for topic in (one.arm_topic, one.gripper_topic)]
        self._command_topics = tuple(filter(None, topics))
        self._actions = robot_actions(contract)
        self._inputs = {
            contract.controllers.joint_states_topic: "joint_states",
            CHUNK_TOPIC: "action_chunk",
            TASK_TOPIC: "task",
            HEARTBEAT_TOPIC: "status",
            INSTRUCTION_STATUS_TOPIC: "status",
        }

    def unauthorized_chunk_publishers(self) -> str:
        """Name the nodes that publish chunks or heartbeats if there are several of one kind, else "".

        By name only: a restarted process has the name of its predecessor, whose end the middleware may not have noticed
        yet. Publishers with the same name are distinguished by their messages (`PublisherWatch`).
        """
        for topic in (CHUNK_TOPIC, HEARTBEAT_TOPIC):
            names = sorted(self._publishers(topic))
            if len(names) > 1:
                return f"several nodes publish {self._full(topic)}: {', '.join(names)}; none is followed"
        return ""

    def complaint(self) -> str:
        """Return what prevents arming: unauthorized publishers, or inputs that are never delivered; "" if nothing."""
        if unauthorized := self.unauthorized_chunk_publishers():
            return unauthorized
        if others := self.other_commanders() or self.other_clocks():
            return others
        for topic, profile in self._inputs.items():
            for info in self._node.get_publishers_info_by_topic(topic):
                verdict, why = qos_check_compatible(info.qos_profile, qos(profile))
                if verdict == QoSCompatibility.ERROR:
                    return (
                        f"{info.node_name} publishes {self._full(topic)} with a quality of service that is not "
                        f"received: {why}"
                    )
        return ""

    def other_commanders(self) -> str:
        """Name the other publishers of commands, whatever their node name; "" if there are none."""
        for topic in self._command_topics:
            infos = self._node.get_publishers_info_by_topic(topic)
            # This node has one publisher per topic: a second one with its name is another process.
            strange = [info for info in infos if _name(info) != self._own] or infos[1:]
            if strange:
                names = ", ".join(sorted({_name(info) for info in strange}))
                return f"{names} also publishes {self._full(topic)}: the robot must have one commander"
        return ""

    def foreign(self) -> tuple[Reason, str]:
        """Return the fault of publishers that must not be there, and who they are, or OK."""
        if others := self.other_commanders():
            return Reason.FOREIGN_COMMANDER, f"({others})"
        if others := self.unauthorized_chunk_publishers() or self.other_clocks():
            return Reason.FOREIGN_PUBLISHER, f"({others})"
        return Reason.OK, ""

    def other_clocks(self) -> str:
        """Name the nodes that publish this node's simulation time if there are several, else "".

        By name only, as in `unauthorized_chunk_publishers`. A node that uses the machine's clock ignores the topic.
        """
        simulated = self._node.get_parameter_or("use_sim_time", None)
        if simulated is None or not simulated.value:
            return ""
        return several_clocks(self._node)

    def publisher_names(self) -> dict[bytes, str]:
        """Return the publishers of the inputs: full node name by GID."""
        return {
            bytes(info.endpoint_gid): _name(info)
            for topic in self._inputs
            for info in self._node.get_publishers_info_by_topic(topic)
        }

    def unheard(self) -> str:
        """Return an error that names the command topics without a controller; "" if all have one.

        It prevents arming but not activation: controllers may start later.
        """
        missing = [topic for topic in self._command_topics if not self._is_heard(topic)]
        if not missing:
            return ""
        names = " and ".join(self._node.resolve_topic_name(topic) for topic in missing)
        return f"no controller listens to {names}: bring it up, or correct the topic in the robot contract"

    def _is_heard(self, topic: str) -> bool:
        if topic in self._actions:
            service = self._node.resolve_service_name(f"{topic}/_action/send_goal")
            return any(name == service for name, _ in self._node.get_service_names_and_types())
        names = [info.node_name for info in self._node.get_subscriptions_info_by_topic(topic)]
        return any(name == NAMELESS or may_be_controller(name) for name in names)

    def require(self) -> None:
        """Raise the complaint, if there is one.

        Raises:
            ContractError: the complaint.
        """
        if complaint := self.complaint():
            raise ContractError(complaint)

    def _full(self, topic: str) -> str:
        return self._node.resolve_topic_name(topic)

    def _publishers(self, topic: str) -> set[str]:
        infos = self._node.get_publishers_info_by_topic(topic)
        return {_name(info) for info in infos}


def _name(info: TopicEndpointInfo) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"
