"""Explain why a published topic is not received: another type, or incompatible QoS."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CompressedImage, Image

from vla_ros.robot.sections.camera import COMPRESSED, RAW
from vla_ros.ros.qos import QOS_FILE


def publisher_mismatch(node: Node, topic: str, kind: type, profile: QoSProfile) -> str:
    """Return why some publisher of `topic` is not received; "" if all are, or there is none.

    Args:
        node: Node that subscribes, or will.
        topic: Topic name as the node uses it.
        kind: Expected message type.
        profile: QoS profile that the node requests.
    """
    name, wanted = node.resolve_topic_name(topic), type_name(kind)
    publishers = node.get_publishers_info_by_topic(topic)
    if others := [one for one in publishers if one.topic_type != wanted]:
        what = f"{name} is published as {others[0].topic_type} by {full_names(others)}, expected {wanted}"
        return what + _transport_advice(others[0].topic_type, wanted)
    for one in publishers:
        if why := incompatible(one.qos_profile, profile).rstrip("; "):
            who = full_names([one])
            return f"{name} has a quality of service that is not received: {why} ({who} offers it); see {QOS_FILE}"
    return ""


def incompatible(offered: QoSProfile, requested: QoSProfile) -> str:
    """Return why a publisher's and a subscriber's QoS are incompatible; "" if they are compatible."""
    verdict, why = qos_check_compatible(offered, requested)
    return str(why) if verdict == QoSCompatibility.ERROR else ""


def full_names(endpoints: Sequence[TopicEndpointInfo]) -> str:
    """Return the full names of the nodes behind some endpoints; a node with two endpoints is listed twice."""
    return " and ".join(sorted(f"{one.node_namespace.rstrip('/')}/{one.node_name}" for one in endpoints))


def type_name(kind: type) -> str:
    """Return a message type as named in the graph, e.g. sensor_msgs/msg/Image."""
    package, interface, *_ = kind.__module__.split(".")
    return f"{package}/{interface}/{kind.__name__}"


def _transport_advice(published: str, wanted: str) -> str:
    """Return the contract line to write if the image transport differs from the contract's; "" for other types."""
    transports = {type_name(Image): RAW, type_name(CompressedImage): COMPRESSED}
    if published not in transports or wanted not in transports:
        return ""
    return f"; write 'transport: {transports[published]}' for this camera in the robot contract"
