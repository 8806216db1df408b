"""Emergency stop button that publishes "not pressed" twenty times a second, in a process that can be killed."""

from __future__ import annotations

import time
from typing import Any

from std_msgs.msg import Bool

from vla_ros.bringup.runner import RosLink
from vla_ros.ros.qos import qos

PERIOD = 0.05
"""Publishing period, s."""


def speak(domain: int, heard: Any) -> None:  # noqa: ANN401 (an event of multiprocessing)
    """Publish forever; set `heard` once there is a subscriber and it has been sent a message."""
    link = RosLink("speaking_button", domain)
    publisher = link.node.create_publisher(Bool, "/vla/estop", qos("estop"))
    while True:
        publisher.publish(Bool(data=False))
        if publisher.get_subscription_count():
            heard.set()
        time.sleep(PERIOD)
