"""An emergency stop button that says twenty times a second that it is not pressed: a process to be killed."""

from __future__ import annotations

import time
from typing import Any

from std_msgs.msg import Bool

from vla_ros.nodes.qos import qos
from vla_ros.nodes.runner import RosLink

PERIOD = 0.05
"""s between two messages."""


def speak(domain: int, heard: Any) -> None:  # noqa: ANN401 (an event of multiprocessing)
    """Speak for ever; `heard` is set once somebody listens and has been told."""
    link = RosLink("speaking_button", domain)
    publisher = link.node.create_publisher(Bool, "/vla/estop", qos("estop"))
    while True:
        publisher.publish(Bool(data=False))
        if publisher.get_subscription_count():
            heard.set()
        time.sleep(PERIOD)
