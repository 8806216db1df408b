"""Sends numbers, or prints those that it hears: `counting_process.py speak DOMAIN PID COUNT`, `... listen DOMAIN`."""

from __future__ import annotations

import os
import signal
import sys
import time

from rclpy.qos import QoSProfile
from std_msgs.msg import UInt32

from vla_ros.bringup.runner import RosLink
from vla_ros.ros.polled import PolledSubscription

PROFILE = QoSProfile(depth=2000)


def listen(domain: int) -> None:
    link = RosLink("listener", domain)
    polled = PolledSubscription(link.node, UInt32, "count", PROFILE)
    print("ready", flush=True)
    while True:
        for one in polled.take():
            print(one.message.data, flush=True)
        time.sleep(0.002)


def speak(domain: int, pid: int, count: int) -> None:
    """Send to a process that is stopped meanwhile, so that its queue of shared memory overflows."""
    link = RosLink("speaker", domain)
    publisher = link.node.create_publisher(UInt32, "count", PROFILE)
    publisher.publish(UInt32(data=0))
    while publisher.get_subscription_count() == 0 or not publisher.wait_for_all_acked():
        time.sleep(0.01)
    os.kill(pid, signal.SIGSTOP)
    for number in range(1, count):
        publisher.publish(UInt32(data=number))
    print("sent", flush=True)
    os.kill(pid, signal.SIGCONT)
    sys.stdin.read()


if __name__ == "__main__":
    {"listen": listen, "speak": speak}[sys.argv[1]](*map(int, sys.argv[2:]))
