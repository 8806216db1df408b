"""A node for test_lifecycle.py: it fails and hangs as its parameters say."""

import ctypes

from std_msgs.msg import String

from vla_ros.ros.lifecycle import ManagedNode, diagnostic, run_node
from vla_ros.ros.qos import qos


class Managed(ManagedNode):
    def __init__(self):
        super().__init__("managed")
        self.heard = 0
        self.create_subscription(String, "/test/hear", self.hear, qos("instruction"))

    def hear(self, message):
        self.heard += 1
        if message.data == "fail":
            raise RuntimeError("the callback was asked to fail")

    def deactivate(self):
        if self.parameter("hangs", False):
            library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)  # which keeps the interpreter's lock
            while True:
                library.pthread_mutex_lock(mutex)  # as a library may that is closing

    def health(self):
        return [diagnostic("managed", b"\0", "hears", {"heard": self.heard})]


if __name__ == "__main__":
    raise SystemExit(run_node(Managed))
