"""What the observer keeps of an episode: its length ends with success, its clock goes on to the end of the film."""

from __future__ import annotations

import pytest
import rclpy

from vla_ros.client.observer import Observer
from vla_ros.msg import SafetyStatus, TaskStatus


@pytest.fixture
def observer():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=0)
    node = rclpy.create_node("test_observer", context=context, use_global_arguments=False)
    yield Observer(node)
    node.destroy_node()
    rclpy.shutdown(context=context)


def verdict(seconds: int, success: bool) -> TaskStatus:
    message = TaskStatus(success=success)
    message.header.stamp.sec = seconds
    return message


def test_the_clock_goes_on_after_success(observer):
    observer._on_safety(SafetyStatus(armed=True))
    for seconds, success in ((10, False), (12, True), (13, True)):
        observer._on_task(verdict(seconds, success))
    assert observer.episode.seconds == 2.0
    assert observer.episode.clock == 3.0
