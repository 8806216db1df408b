"""Runs a policy: newest observation in, chunk out, fifty heartbeats per second. It never commands the robot."""

from __future__ import annotations

import math
import os
import sys
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.duration import Duration

from vla_ros.errors import InstructionError, ObservationError
from vla_ros.msg import ActionChunk as ChunkMessage
from vla_ros.msg import Instruction as InstructionMessage
from vla_ros.msg import Observation as ObservationMessage
from vla_ros.policies.asynchronous import InferenceWorker, WorkerState
from vla_ros.policies.build import DEFAULT_CHECKPOINT, load_executor
from vla_ros.policies.execution.executor import Execution
from vla_ros.policies.execution.settings import Mode
from vla_ros.policies.protocol import close_policy
from vla_ros.priority import prefer_process
from vla_ros.robot.contract import load_contract
from vla_ros.ros.heartbeat import HEARTBEAT_PERIOD, Heartbeat
from vla_ros.ros.lifecycle import ManagedNode, diagnostic, run_node
from vla_ros.ros.messages.conversions import chunk_to_message, message_to_instruction, message_to_observation
from vla_ros.ros.qos import qos
from vla_ros.types import ActionChunk

MAX_THREADS = 256
DELIVERY_TIMEOUT = 1.0  # s, lockstep: longest wait until every subscriber has a chunk
STALE_AFTER = 0.5  # s without an observation
LOCKSTEP_HEARTBEAT_PERIOD = 0.5  # s; in lockstep a heartbeat follows every inference, and there is no deadline
NICENESS = -5  # of the process: a late policy slows the arm down
SWITCH_INTERVAL = (
    1e-3  # s for which the policy may keep the interpreter from the heartbeat; Python's default is five times longer
)


class PolicyNode(ManagedNode):
    """Loads a policy on configuration, and plans from the newest task and observation while active."""

    default_robot = "panda"
    niceness = NICENESS

    def __init__(self) -> None:
        """Create the node, unconfigured."""
        super().__init__("policy_node")
        self._worker: InferenceWorker | None = None
        self._heartbeat: Heartbeat | None = None
        self._made: list[Any] = []

    def configure(self) -> None:
        """Load the policy; a checkpoint that does not fit the robot is rejected with every line that differs."""
        threads = int(self.parameter("threads", 1, "CPU threads of PyTorch", low=1, high=MAX_THREADS, changeable=True))
        self._contract = load_contract(self.robot_parameter())
        about = "folder, policy file, openpi://host:port, module:Class, or a name"
        name = self.parameter("policy", DEFAULT_CHECKPOINT, about, changeable=True)
        about = "auto (CUDA where there is one), cpu, cuda, cuda:1, ..."
        device = self.parameter("device", "auto", about, changeable=True)
        precision = self.parameter("precision", "fp32", "of the network: fp32, bf16 or fp16", changeable=True)
        lockstep = self.parameter("lockstep", False, "simulation time waits: no observation grows old meanwhile")
        self._lockstep = bool(lockstep)
        about = f"how chunks follow each other: {', '.join(Mode)}; auto: as the policy's file says"
        execution = self.parameter("execution", Mode.AUTO.value, about, changeable=True)
        self._policy = load_executor(name, self._contract, device, precision, execution)
        self._told = ""
        _limit_threads(threads)
        self.get_logger().info(f"policy {self._policy.name} on {self._policy.device}")
        self._chunks = self.create_publisher(ChunkMessage, "vla/action_chunk", qos("action_chunk"))

    def activate(self) -> None:
        """Start the worker and the heartbeat, and subscribe."""
        stale_after = math.inf if self._lockstep else STALE_AFTER
        self._worker = InferenceWorker(
            self._policy, self._publish, self._tell, stale_after=stale_after, clock=self._seconds
        )
        period = LOCKSTEP_HEARTBEAT_PERIOD if self._lockstep else HEARTBEAT_PERIOD
        self._heartbeat = Heartbeat(self, self._worker, period)
        self._made = [
            self.create_subscription(ObservationMessage, "vla/observation", self._on_observation, qos("observation")),
            self.create_subscription(InstructionMessage, "vla/task", self._on_task, qos("task")),
        ]

    def deactivate(self) -> None:
        """Stop all work; an inference in progress is no longer published."""
        if self._worker is None:
            return
        for subscription in self._made:
            self.destroy_subscription(subscription)
        if self._heartbeat is not None:
            self._heartbeat.close()
            self._heartbeat = None
        if not self._worker.close():
            self.get_logger().error("the policy did not come back; its thread is left behind")
        self._worker = None

    def cleanup(self) -> None:
        """Release the policy."""
        if getattr(self, "_policy", None) is None:
            return
        close_policy(self._policy)
        del self._policy
        self.destroy_publisher(self._chunks)

    def health(self) -> list[DiagnosticStatus]:
        """Report the worker's state."""
        if self._worker is None:
            return []
        status = self._worker.status()
        level = DiagnosticStatus.ERROR if status.state is WorkerState.FAULT else DiagnosticStatus.OK
        figures = {
            "inferences": status.inferences,
            "inference_ms_p50": round(status.inference_ms_p50, 2),
            "inference_ms_p99": round(status.inference_ms_p99, 2),
            "dropped_observations": status.dropped_observations,
            **_figures(self._policy.execution),
        }
        return [diagnostic(self.get_name(), level, status.sentence, figures)]

    def _on_observation(self, message: ObservationMessage) -> None:
        if self._worker is None:
            return
        try:
            self._worker.offer(message_to_observation(message, self._contract))
        except ObservationError as error:
            self._worker.complain(str(error))
            self.get_logger().error(str(error), throttle_duration_sec=1.0)

    def _on_task(self, message: InstructionMessage) -> None:
        if self._worker is None:
            return
        try:
            self._worker.instruct(message_to_instruction(message))
        except InstructionError as error:
            self.get_logger().error(str(error))
        self._beat()

    def _publish(self, chunk: ActionChunk) -> None:
        """Publish a chunk; called in the worker's thread."""
        message = chunk_to_message(chunk)
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = self._contract.base_frame
        self._chunks.publish(message)
        if self._lockstep:
            self._chunks.wait_for_all_acked(Duration(seconds=DELIVERY_TIMEOUT))
        if self._told != (execution := self._policy.execution).mode.value:
            self._told = execution.mode.value
            self.get_logger().info(f"chunks: {execution.sentence}")

    def _seconds(self) -> float:
        """Return the time, s, on the clock of the observations' stamps."""
        return float(1e-9 * self.get_clock().now().nanoseconds)

    def _tell(self) -> None:
        """Publish a heartbeat as soon as an inference is finished: in lockstep the simulator waits for it."""
        if self._lockstep:
            self._beat()

    def _beat(self) -> None:
        if (heartbeat := self._heartbeat) is not None:
            heartbeat.beat()


def _figures(execution: Execution) -> dict[str, object]:
    """Return the execution of chunks, for diagnostics."""
    delay = execution.delay
    return {
        "execution": execution.mode.value,
        "execution_reason": execution.reason,
        "chunk_delay_ms": round(1e3 * delay.median, 1),
        "chunk_delay_jitter_ms": round(1e3 * delay.jitter, 1),
        "frozen_rows": execution.frozen,
    }


def _limit_threads(threads: int) -> None:
    """Limit PyTorch's threads, if the policy has imported it: more only take time from the control thread."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def main() -> int:
    """Run the node."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    prefer_process(NICENESS)
    return run_node(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
