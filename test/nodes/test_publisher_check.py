"""Why nothing comes from a publisher that is there, against real publishers of another node."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from vla_ros.bringup.runner import RosLink
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.dds.publisher_check import publisher_mismatch
from vla_ros.ros.qos import qos

DEADLINE = 30.0
OFFERED = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.VOLATILE)
TOPIC = "/camera/image"


def asked(reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(depth=1, reliability=reliability, durability=durability, liveliness=LivelinessPolicy.AUTOMATIC)


@pytest.fixture(scope="module")
def listener() -> Iterator[RosLink]:
    domain = free_domain()
    driver, link = RosLink("driver", domain), RosLink("listener", domain)
    driver.node.create_publisher(Image, TOPIC, OFFERED)
    end = time.monotonic() + DEADLINE
    while not any(one.node_name == "driver" for one in link.node.get_publishers_info_by_topic(TOPIC)):
        assert time.monotonic() < end, "the driver is not found"
        time.sleep(0.01)
    yield link
    link.close()
    driver.close()


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        (asked(ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE), "Best effort publisher"),
        (asked(ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.TRANSIENT_LOCAL), "Volatile publisher"),
    ],
)
def test_a_quality_of_service_that_is_not_offered_is_named(listener: RosLink, profile: QoSProfile, says: str) -> None:
    sentence = publisher_mismatch(listener.node, TOPIC, Image, profile)
    assert sentence.startswith(f"{TOPIC} has a quality of service that is not received: ")
    assert says in sentence
    assert "(/driver offers it); see config/qos.yaml" in sentence


def test_another_type_is_named_with_the_line_to_write(listener: RosLink) -> None:
    sentence = publisher_mismatch(listener.node, TOPIC, CompressedImage, qos("camera"))
    expected = "sensor_msgs/msg/Image by /driver, expected sensor_msgs/msg/CompressedImage; write 'transport: raw'"
    assert expected in sentence


def test_of_what_fits_and_of_what_is_not_there_nothing_is_said(listener: RosLink) -> None:
    assert publisher_mismatch(listener.node, TOPIC, Image, qos("camera")) == ""
    assert publisher_mismatch(listener.node, "/nobody", Image, qos("camera")) == ""
