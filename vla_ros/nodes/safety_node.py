"""What stands between the policy and the motors: a process of its own, the only publisher of robot commands.

    executor's thread      /joint_states, /vla/action_chunk, /vla/task, /vla/estop  ->  newest message in a slot
    control thread         slots -> SafetySupervisor.tick -> commands, at deadlines of the steady clock

Nothing of the executor lies on the way from the clock to a command: a flood of messages, a slow service or a full log
delays what comes in, never what goes out. In lock step one joint state is one tick, and its stamp is the clock.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from vla_ros.errors import ContractError
from vla_ros.msg import ActionChunk, Instruction, SafetyStatus
from vla_ros.nodes.conversions import stamp_to_seconds
from vla_ros.nodes.lifecycle import ManagedNode, diagnostic, run_node
from vla_ros.nodes.qos import qos
from vla_ros.nodes.safety_control import SafetyControl
from vla_ros.nodes.safety_graph import GraphWatch
from vla_ros.robot.contract import load_contract
from vla_ros.safety.parameters import SAFETY_FILE, load_parameters
from vla_ros.safety.selftest import run_selftest
from vla_ros.types import SafetyState

WATCH_PERIOD = 0.1
"""How often the executor looks who publishes what, s."""

ANSWER_TIMEOUT = 1.0
"""Longest time until the control thread has dealt with a request, s."""

REST_TIMEOUT = 1.0
"""Longest time to bring the arm to rest when the node is deactivated, s."""

SWITCH_INTERVAL = 5e-4
"""Longest time that a callback may keep the interpreter from the control thread, s: a tenth of Python's own."""

NICENESS = -15
"""Of the control thread among the threads of the machine."""

Answer = TypeVar("Answer")


class SafetyNode(ManagedNode):
    """See the module."""

    def __init__(self) -> None:
        """Create the node, unconfigured."""
        super().__init__("safety_node")
        self._thread: threading.Thread | None = None
        self._made: list[Callable[[], object]] = []

    def configure(self) -> None:
        """Read contract and parameters, test the layer on them, make the topics."""
        contract = load_contract(self.parameter("robot", "panda", "robot contract: a name or a file"))
        parameters = load_parameters(self.parameter("safety", SAFETY_FILE, "safety parameters: a file"))
        if failed := run_selftest(contract, parameters):
            raise ContractError(f"the self-test of the safety layer failed: {'; '.join(failed)}")
        self._lockstep = bool(self.parameter("lockstep", False, "one joint state is one tick, its stamp is the clock"))
        self._arm_at_once = bool(self.parameter("arm_on_activate", False, "arm as soon as the robot allows it"))
        self._control = SafetyControl(
            contract,
            parameters,
            publish_arm=self._publisher(JointTrajectory, contract.controllers.arm_topic, "arm_command"),
            publish_gripper=self._publisher(JointTrajectory, contract.controllers.gripper_topic, "gripper_command"),
            publish_status=self._publisher(SafetyStatus, "/vla/safety_status", "status"),
            clock=self.get_clock(),
            estop_timeout=float(self.parameter("estop_timeout", 0.0, "s of silence of a speaking button; 0: no limit")),
            lockstep=self._lockstep,
        )
        self._watch = GraphWatch(self, contract)
        self._change = threading.Condition()
        self._requests: deque[Callable[[], None]] = deque(maxlen=8)
        self._joint_states: deque[JointState] = deque(maxlen=1)
        topic = contract.controllers.joint_states_topic
        self._subscription(JointState, topic, self._take_joint_state, "joint_states")
        self._subscription(ActionChunk, "/vla/action_chunk", self._take_chunk, "action_chunk")
        self._subscription(Instruction, "/vla/task", self._control.inputs.offer_instruction, "task")
        self._subscription(Bool, "/vla/estop", self._take_estop, "estop")
        self._own(self.create_service(SetBool, "/vla/arm", self._on_arm), self.destroy_service)
        self._own(self.create_service(Trigger, "/vla/reset", self._on_reset), self.destroy_service)
        timer = self.create_timer(WATCH_PERIOD, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._own(timer, self.destroy_timer)

    def activate(self) -> None:
        """Start the control thread, disarmed."""
        self._watch.require()
        self._stopping = False
        self._auto_arm = self._arm_at_once
        gc.collect()
        gc.freeze()  # what is there now is there to stay: collections need not look at it in the middle of a tick
        loop = self._run_lockstep if self._lockstep else self._run
        self._thread = threading.Thread(target=loop, name="control", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        """Bring the arm to rest and end the control thread."""
        if self._thread is None:
            return
        self._post(lambda: self._control.disarm(self._now()))
        end = time.monotonic() + (0.0 if self._lockstep else REST_TIMEOUT)
        while self._control.state is not SafetyState.DISARMED and time.monotonic() < end and self._thread.is_alive():
            if self._control.state is SafetyState.ESTOP and self._control.resting:
                break
            time.sleep(0.005)
        with self._change:
            self._stopping = True
            self._change.notify_all()
        self._thread.join(timeout=REST_TIMEOUT)
        self._thread = None
        gc.unfreeze()

    def cleanup(self) -> None:
        """Take the topics and services away."""
        while self._made:
            self._made.pop()()

    # What the executor's thread does.

    def _take_joint_state(self, message: JointState) -> None:
        self._control.inputs.offer_joint_state(message)
        if self._lockstep:
            with self._change:
                self._joint_states.append(message)
                self._change.notify_all()

    def _take_chunk(self, message: ActionChunk) -> None:
        strangers = self._watch.chunk_strangers()
        self._control.inputs.offer_chunk(message, foreign=bool(strangers))
        if strangers:
            self.get_logger().error(strangers, throttle_duration_sec=2.0)

    def _take_estop(self, message: Bool) -> None:
        self._control.estop.receive(bool(message.data), time.monotonic())

    def _on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._auto_arm = False  # who decides by hand is not decided over
        if not request.data:
            self._ask(lambda: self._control.disarm(self._now()), None)
            response.success, response.message = True, "the arm comes to rest, then it is disarmed"
            return response
        complaint = self._watch.complaint()
        answer = complaint or self._ask(lambda: self._control.arm(self._now()), "the control thread does not run")
        response.success = answer == ""
        response.message = answer or "armed: the arm holds until valid chunks come"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        answer = self._ask(lambda: self._control.reset(self._now()), "the control thread does not run")
        response.success, response.message = answer == "", answer or "disarmed"
        return response

    def _look(self) -> None:
        """Find lost and foreign publishers, arm where asked to, and say what the control thread has to say."""
        self._control.estop.publishers(self.count_publishers("/vla/estop"))
        if self.active and self._auto_arm and not self._watch.complaint():
            self._post(self._arm_by_itself)
        for line in self._control.take_notes():
            self.get_logger().info(line)

    def _arm_by_itself(self) -> None:
        if self._auto_arm and self._control.arm(self._now()) == "":
            self._auto_arm = False

    def _post(self, request: Callable[[], None]) -> None:
        """Let the control thread do something before its next tick."""
        with self._change:
            self._requests.append(request)
            self._change.notify_all()

    def _ask(self, request: Callable[[], Answer], otherwise: Answer) -> Answer:
        """Let the control thread do something, and return its answer."""
        answers: list[Answer] = []
        done = threading.Event()

        def answer() -> None:
            answers.append(request())
            done.set()

        if self._thread is None:
            return otherwise
        self._post(answer)
        return answers[0] if done.wait(ANSWER_TIMEOUT) else otherwise

    # What the control thread does.

    def _now(self) -> float:
        return self._control.lockstep_time if self._lockstep else time.monotonic()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # where the system allows it; it works without, until processors are scarce
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        period = self._control.period
        deadline = time.monotonic()
        while not self._stopping:
            deadline += period
            delay = deadline - time.monotonic()
            if delay > 0.0:
                time.sleep(delay)
            else:
                deadline -= delay  # late: the tick counts as missed, it is not made up for
            self._answer_requests()
            self._attempt_tick(self._control.tick, time.monotonic())

    def _run_lockstep(self) -> None:
        while not self._stopping:
            with self._change:
                self._change.wait_for(lambda: self._stopping or self._requests or self._joint_states, timeout=0.5)
                message = self._joint_states.popleft() if self._joint_states else None
            self._answer_requests()
            if message is not None:
                self._attempt_tick(self._control.lockstep_tick, stamp_to_seconds(message.header.stamp))

    def _attempt_tick(self, tick: Callable[[float], object], now: float) -> None:
        try:
            tick(now)
        except Exception:  # no command goes out, and the controller's own time-out holds the arm until one does
            self._control.note(f"a tick failed:\n{traceback.format_exc()}")

    def _answer_requests(self) -> None:
        while self._requests:
            self._requests.popleft()()

    def health(self) -> list[DiagnosticStatus]:
        """Report state, counters and how long ticks take."""
        if not self.active:
            return []
        control = self._control
        counters = control.counters
        levels = {SafetyState.RUN: DiagnosticStatus.OK, SafetyState.DISARMED: DiagnosticStatus.OK,
                  SafetyState.ESTOP: DiagnosticStatus.ERROR}  # fmt: skip
        level = levels.get(control.state, DiagnosticStatus.WARN)
        durations = np.array(control.durations or [0.0]) * 1e3
        values = {"state": control.state.name, **vars(counters),
                  "tick_ms_p50": f"{np.percentile(durations, 50):.3f}",
                  "tick_ms_p99": f"{np.percentile(durations, 99):.3f}"}  # fmt: skip
        sentence = control.sentence
        if complaint := self._watch.complaint():
            level, sentence = DiagnosticStatus.ERROR, complaint
        return [diagnostic(self.get_name(), level, sentence, values)]

    def _publisher(self, kind: type, topic: str, profile: str) -> Callable[[object], None]:
        publisher = self.create_publisher(kind, topic, qos(profile))
        self._own(publisher, self.destroy_publisher)
        return publisher.publish

    def _subscription(self, kind: type, topic: str, callback: Callable[..., None], profile: str) -> None:
        self._own(self.create_subscription(kind, topic, callback, qos(profile)), self.destroy_subscription)

    def _own(self, thing: object, destroy: Callable[..., object]) -> None:
        self._made.append(lambda: destroy(thing))


def main() -> int:
    """Run the node."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    return run_node(SafetyNode)


if __name__ == "__main__":
    raise SystemExit(main())
