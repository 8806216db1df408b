"""The other process of test_messages.py: sends every message back, and answers the service with what it was asked."""

import contextlib
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from vla_ros import msg, srv

# A late reader still gets the last sample, so neither side has to wait for the other's discovery.
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("echo")
    for name in sys.argv[1].split(","):
        kind = getattr(msg, name)
        back = node.create_publisher(kind, f"/test/back/{name}", LATCHED)
        node.create_subscription(kind, f"/test/out/{name}", back.publish, LATCHED)

    def answer(request: srv.ResetScene.Request, response: srv.ResetScene.Response) -> srv.ResetScene.Response:
        response.success = True
        response.instruction = request.instruction
        response.objects = [str(request.seed)] * 16
        response.message = "as asked"
        return response

    node.create_service(srv.ResetScene, "/test/reset_scene", answer)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


if __name__ == "__main__":
    main()
