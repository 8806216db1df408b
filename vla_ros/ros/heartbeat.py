"""Heartbeat of the policy on /vla/policy_status; without it the safety layer holds the arm.

It reports the worker's state from its own thread, so that the arm is stopped soon after a policy crashes, hangs or
faults, and not only when its last chunk has run out.
"""

from __future__ import annotations

import threading

from rclpy.node import Node

from vla_ros.msg import PolicyStatus
from vla_ros.policies.asynchronous import InferenceWorker
from vla_ros.priority import prefer_thread
from vla_ros.ros.qos import qos

HEARTBEAT_PERIOD = 0.02
"""Heartbeat period, s on the steady clock, so that it continues while the simulation is paused."""

NICENESS = -10
"""Niceness of the heartbeat thread within its process."""


class Heartbeat:
    """Publishes from construction until `close`; `beat` may be called from any thread."""

    def __init__(self, node: Node, worker: InferenceWorker, period: float = HEARTBEAT_PERIOD) -> None:
        """Start publishing the state of `worker` on `node` every `period` s."""
        self._node, self._worker, self._period = node, worker, period
        self._publisher = node.create_publisher(PolicyStatus, "vla/policy_status", qos("status"))
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
        self._thread.start()

    def beat(self) -> None:
        """Publish now; no effect after `close`."""
        if self._ending.is_set():
            return
        policy, status = self._worker.policy, self._worker.status()
        message = PolicyStatus(
            state=int(status.state),
            policy=policy.name[:64],
            device=policy.device[:64],
            instruction_sequence=status.instruction_sequence,
            inferences=status.inferences,
            dropped_observations=status.dropped_observations,
            inference_ms=status.inference_ms,
            inference_ms_p50=status.inference_ms_p50,
            inference_ms_p99=status.inference_ms_p99,
            trust=status.trust,
            sentence=status.sentence[:256],
            computing=status.computing,
        )
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def close(self) -> None:
        """Stop publishing."""
        self._ending.set()
        self._thread.join(timeout=1.0)
        self._node.destroy_publisher(self._publisher)

    def _keep_beating(self) -> None:
        prefer_thread(NICENESS)
        while not self._ending.wait(self._period):
            self.beat()
