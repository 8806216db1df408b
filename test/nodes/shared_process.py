"""Two nodes in one process for test_node_container.py: they block and end as they are told."""

import threading

from std_msgs.msg import String

from vla_ros.nodes.node_container import run_nodes
from vla_ros.ros.lifecycle import ManagedNode
from vla_ros.ros.qos import qos


class Told(ManagedNode):
    def __init__(self, name):
        super().__init__(name)
        self.create_subscription(String, f"/test/{name}", self.hear, qos("instruction"))

    def hear(self, message):
        if message.data == "block":
            self.get_logger().info("blocks")
            threading.Event().wait()
        if message.data == "end":
            raise SystemExit
        raise RuntimeError("the callback was asked to fail")

    def deactivate(self):
        self.get_logger().info("deactivated")


if __name__ == "__main__":
    raise SystemExit(run_nodes([lambda: Told("first"), lambda: Told("second")]))
