"""Who else talks on the safety node's topics: strangers, controllers that are not there, and quality of service."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from vla_ros.errors import ContractError
from vla_ros.nodes.clock_publishers import NAMELESS, several_clocks
from vla_ros.nodes.command_listeners import may_be_controller
from vla_ros.nodes.interfaces import robot_actions
from vla_ros.nodes.qos import qos
from vla_ros.nodes.safety_orders import INSTRUCTION_STATUS_TOPIC
from vla_ros.nodes.safety_polling import CHUNK_TOPIC, HEARTBEAT_TOPIC, TASK_TOPIC
from vla_ros.robot.contract import RobotContract


class GraphWatch:
    """Asks the middleware's own picture of the graph; cheap, and never waits."""

    def __init__(self, node: Node, contract: RobotContract) -> None:
        """Look with the eyes of `node`."""
        self._node = node
        self._own = f"{node.get_namespace().rstrip('/')}/{node.get_name()}"
        arms = [arm.controllers for arm in contract.arms]
        topics = [topic for one in arms for topic in (one.arm_topic, one.gripper_topic)]
        self._command_topics = tuple(filter(None, topics))
        self._actions = robot_actions(contract)
        self._inputs = {
            contract.controllers.joint_states_topic: "joint_states", CHUNK_TOPIC: "action_chunk", TASK_TOPIC: "task",
            HEARTBEAT_TOPIC: "status", INSTRUCTION_STATUS_TOPIC: "status",
        }  # fmt: skip

    def chunk_strangers(self) -> str:
        """Name the several nodes that publish chunks or heartbeats; "" while there is at most one of each.

        By name alone: a process that was started again has the name of the one before, whose end the middleware may not
        have noticed yet. Publishers of one name are told apart by their messages (`PublisherWatch`).
        """
        for topic in (CHUNK_TOPIC, HEARTBEAT_TOPIC):
            names = sorted(self._publishers(topic))
            if len(names) > 1:
                return f"several nodes publish {self._full(topic)}: {', '.join(names)}; none is followed"
        return ""

    def complaint(self) -> str:
        """Say what forbids to arm: strangers, or inputs that are never delivered; "" when nothing does."""
        if strangers := self.chunk_strangers():
            return strangers
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
        """Name who else publishes commands, whatever it calls itself; "" when nobody does."""
        for topic in self._command_topics:
            infos = self._node.get_publishers_info_by_topic(topic)
            # This node has one publisher of a topic, and what has its name may still be somebody else.
            strange = [info for info in infos if _name(info) != self._own] or infos[1:]
            if strange:
                names = ", ".join(sorted({_name(info) for info in strange}))
                return f"{names} also publishes {self._full(topic)}: the robot must have one commander"
        return ""

    def other_clocks(self) -> str:
        """Name the several nodes that publish the time that this node goes by; "" while there is at most one.

        By name alone, as in `chunk_strangers`. A node that goes by the machine's clock has no use for the topic.
        """
        simulated = self._node.get_parameter_or("use_sim_time", None)
        if simulated is None or not simulated.value:
            return ""
        return several_clocks(self._node)

    def publisher_names(self) -> dict[bytes, str]:
        """Return who publishes the inputs: GID to the full name of the node."""
        return {
            bytes(info.endpoint_gid): _name(info)
            for topic in self._inputs
            for info in self._node.get_publishers_info_by_topic(topic)
        }

    def unheard(self) -> str:
        """Name the controllers that are not there to hear a command; "" when all are.

        Forbids to arm, and not to be activated: controllers may come later.
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
        """Refuse to go on while there is a complaint.

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
