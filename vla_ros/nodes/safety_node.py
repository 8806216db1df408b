"""Safety layer between the policy and the motors: its own process, and the only publisher of robot commands.

    executor's thread      in lockstep: /joint_states, /vla/action_chunk, /vla/task  ->  newest message in a slot
    control thread         slots, /vla/estop, heartbeats -> SafetySupervisor.tick -> commands, at steady deadlines
    watchdog               a late command  ->  the next row of the known stop
    self-test              its own process; the robot cannot be armed until it has passed

The executor is not involved between the clock and a command: a flood of messages, a slow service or a full log delays
inputs, never commands. The emergency stop does not go through the executor at all.
"""

from __future__ import annotations

import gc
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from vla_ros.errors import ContractError
from vla_ros.msg import ActionChunk, Instruction, SafetyStatus
from vla_ros.nodes.safety.arming_selftest import ArmingSelftest
from vla_ros.nodes.safety.control import SafetyControl
from vla_ros.nodes.safety.controller_outputs import Outputs
from vla_ros.nodes.safety.estop_input import EstopInput
from vla_ros.nodes.safety.graph_watch import GraphWatch
from vla_ros.nodes.safety.inputs import Inputs
from vla_ros.nodes.safety.polling import CHUNK_TOPIC, TASK_TOPIC, SafetyPolling
from vla_ros.nodes.safety.thread import ANSWER_TIMEOUT, ControlThread
from vla_ros.priority import disable_realtime, enable_realtime, prefer_process
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.ros.graph.duplicate_nodes import DISCOVERY
from vla_ros.ros.lifecycle import ManagedNode, diagnostic, run_node, time_left
from vla_ros.ros.messages.commands import CommandClock
from vla_ros.ros.qos import qos
from vla_ros.ros.throttled_logger import ThrottledLogger
from vla_ros.safety.contact.contact_reaction import longest_rest
from vla_ros.safety.parameters import SAFETY_FILE, SafetyParameters, load_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.query_time import require_timely_distances
from vla_ros.safety.selftest.record import UNDER_WAY, default_folder
from vla_ros.safety.selftest.run import run_selftest
from vla_ros.safety.watch.estop import LONGEST_TIMEOUT, EstopSignal
from vla_ros.types import SafetyState

WATCH_PERIOD = 0.1
"""Period at which the executor checks the publishers of each topic, s."""

REST_MARGIN = 0.5
"""Extra time for the arm to rest on deactivation beyond the duration of the motion, s: ticks may be late."""

END_RESERVE = 1.0
"""Time reserved for freeing resources before the process is ended forcibly, s; the arm must rest by then."""

NO_ANSWER = "the control thread does not answer"

SWITCH_INTERVAL = 5e-4
"""Maximum time for which a callback may keep the GIL from the control thread, s: a tenth of Python's default."""

NICENESS = -15
"""Niceness of all threads of the node: one that is preempted while it holds the GIL blocks the control thread, too."""

REALTIME_PRIORITY = 1
"""Real-time priority, if the system grants it: above all processes without one, below drivers that have one."""

SELFTEST_MAX_AGE = 86400.0
"""Maximum age of a passed self-test for a restart with nothing changed, s."""

LONGEST_SELFTEST_AGE = 30 * 86400.0
"""Maximum of the parameter `selftest_max_age`, s."""


class SafetyNode(ManagedNode):
    """Runs the safety layer; see the module docstring for its threads."""

    default_robot = "panda"

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 (those of rclpy.node.Node)
        """Create the node, unconfigured; it receives the emergency stop from now on. `options` are those of `Node`."""
        super().__init__("safety_node", **options)
        self._thread: ControlThread | None = None
        self._made_control: SafetyControl | None = None
        self._made: list[Callable[[], object]] = []
        self._throttled = ThrottledLogger(self.get_logger())
        self._estop = EstopSignal()  # a pressed button stays pressed through every transition
        self._buttons = EstopInput(self, self._estop)
        self._buttons.listen()
        self._latched = False
        self._realtime = ""
        self._foreign = Reason.OK, ""  # found in the graph, and who it is

    def configure(self) -> None:
        """Read contract and parameters, start the self-test with them, create the topics."""
        robot = self.robot_parameter()
        safety = str(self.parameter("safety", SAFETY_FILE, "safety parameters: a file"))
        contract, parameters = load_contract(robot), load_parameters(safety)
        if slow := require_timely_distances(contract, parameters):
            self.get_logger().warning(slow)
        if failed := run_selftest(contract, parameters):
            raise ContractError(f"the self-test of the safety layer failed: {'; '.join(failed)}")
        self._lockstep = bool(self.parameter("lockstep", False, "one joint state is one tick, its stamp is the clock"))
        self._arm_at_once = bool(self.parameter("arm_on_activate", False, "arm as soon as the robot allows it"))
        self._rest_timeout = longest_rest(contract, parameters.timing.period) + REST_MARGIN
        self._realtime = self._take_realtime()
        self._made_control = self._make_control(contract, parameters)
        self._ticker = ControlThread(self._control, parameters.timing.tick_budget, self._lockstep)
        self._watch = GraphWatch(self, contract)
        self._selftest = self._begin_selftest(contract, parameters, robot, safety)
        if self._lockstep:
            topic = contract.controllers.joint_states_topic
            self._subscription(JointState, topic, self._take_joint_state, "joint_states")
            self._subscription(ActionChunk, CHUNK_TOPIC, self._take_chunk, "action_chunk")
            self._subscription(Instruction, TASK_TOPIC, self._control.inputs.offer_instruction, "task")
        self._own(self.create_service(SetBool, "vla/arm", self._on_arm), self.destroy_service)
        self._own(self.create_service(Trigger, "vla/reset", self._on_reset), self.destroy_service)
        # Its own group: a mutually exclusive group such as the node's default runs nothing else while one of its
        # coroutines waits. Reentrant, so that a second call is answered at once that a run is in progress.
        group = ReentrantCallbackGroup()
        selftest = self.create_service(Trigger, "vla/selftest", self._on_selftest, callback_group=group)
        self._own(selftest, self.destroy_service)
        timer = self.create_timer(WATCH_PERIOD, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._own(timer, self.destroy_timer)

    @property
    def _control(self) -> SafetyControl:
        assert self._made_control is not None  # `configure` makes it before everything that asks for it
        return self._made_control

    def _take_realtime(self) -> str:
        """Acquire the real-time priority if possible; return its human-readable status."""
        about = "real-time priority of the process, 1 (last of those that have one) to 99; 0: none"
        priority = int(self.parameter("realtime_priority", REALTIME_PRIORITY, about, low=0, high=99))
        if priority == 0 or self._lockstep:  # in lockstep nothing can be late
            return "none"
        if not (refused := enable_realtime(priority)):
            self._made.append(disable_realtime)
            return str(priority)
        sentence = f"no real-time priority {priority}: {refused}"
        self.get_logger().info(f"{sentence}; on a busy machine commands come late, and the arm slows down or holds")
        return sentence

    def _make_control(self, contract: RobotContract, parameters: SafetyParameters) -> SafetyControl:
        outputs = Outputs(self, contract)
        self._made.append(outputs.close)
        about = "s of silence after which a button that speaks counts as pressed; 0: it speaks only when used"
        timeout = float(self.parameter("estop_timeout", 0.0, about, low=0.0, high=LONGEST_TIMEOUT))
        self._estop.set_timeout(timeout)
        inputs = Inputs(contract)
        self._polling = SafetyPolling(self, contract, inputs, self._buttons, lockstep=self._lockstep)
        self._made.append(self._polling.close)
        control = SafetyControl(
            contract,
            parameters,
            publish_arm=outputs.arm(),
            publish_gripper=outputs.gripper(),
            publish_status=self._publisher(SafetyStatus, "vla/safety_status", "status"),
            estop=self._estop,
            take_heartbeats=self._polling.heartbeats,
            clock=self.get_clock,
            lockstep=self._lockstep,
            command_clock=self._command_clock(),
            poll=self._poll,
            inputs=inputs,
            orders=self._polling.orders,
        )
        if self._latched:  # only a reset ends an emergency stop, never a transition of the node
            control.latch(self._ticker_time())
        return control

    def _command_clock(self) -> CommandClock:
        name = str(
            self.parameter("command_clock", "auto", "stamps of commands: system, arrival; auto: by use_sim_time")
        )
        if name == "auto":
            return CommandClock.ARRIVAL if self.get_parameter("use_sim_time").value else CommandClock.SYSTEM
        if name not in (CommandClock.SYSTEM.value, CommandClock.ARRIVAL.value):
            raise ContractError(f"command_clock is '{name}', expected auto, system or arrival")
        return CommandClock(name)

    def _ticker_time(self) -> float:
        return 0.0 if self._lockstep else time.monotonic()

    def _poll(self) -> tuple[Reason, str]:
        fault = self._polling.poll()  # polled even while another commander is there, which has priority
        commanded = self._foreign[0] is Reason.FOREIGN_COMMANDER
        return self._foreign if commanded or fault[0] is Reason.OK else fault

    def _begin_selftest(
        self, contract: RobotContract, parameters: SafetyParameters, robot: str, safety: str
    ) -> ArmingSelftest:
        folder = str(self.parameter("selftest_folder", "", "where a self-test that passed is kept; empty: user cache"))
        max_age = float(
            self.parameter(
                "selftest_max_age",
                SELFTEST_MAX_AGE,
                "s that it stays good when nothing changed; 0: never",
                low=0.0,
                high=LONGEST_SELFTEST_AGE,
            )
        )
        selftest = ArmingSelftest(contract, parameters, robot, safety, Path(folder) if folder else default_folder())
        self._made.append(selftest.close)
        if not selftest.recall(max_age):
            self.get_logger().info(f"the self-test is run: {selftest.not_recalled}")
            selftest.start(self._on_tested)
        return selftest

    def activate(self) -> None:
        """Start the control thread, disarmed."""
        self._watch.require()
        self._auto_arm = self._arm_at_once
        self._found_by = time.monotonic() + DISCOVERY
        gc.collect()
        gc.freeze()  # existing objects are permanent: the garbage collector need not scan them during a tick
        self._polling.restart()
        self._control.restart()
        self._thread = self._ticker
        self._buttons.rest()
        self._thread.start()

    def deactivate(self) -> None:
        """Bring the arm to rest (backing out of a contact first, if there is time), and end the control thread."""
        thread = self._thread
        if thread is None:
            return
        thread.request_disarm()
        end = time.monotonic() + (0.0 if self._lockstep else self._rest_timeout)
        while self._control.state is not SafetyState.DISARMED and time.monotonic() < end and thread.running:
            if (self._control.state is SafetyState.ESTOP and self._control.resting) or time_left() < END_RESERVE:
                break
            time.sleep(0.005)
        thread.stop()
        self._thread = None
        self._buttons.listen()
        gc.unfreeze()

    def cleanup(self) -> None:
        """Destroy the topics and services."""
        if self._made_control is not None:
            self._latched = self._control.state is SafetyState.ESTOP
        while self._made:
            self._made.pop()()

    def destroy_node(self) -> None:
        """Destroy the node; from now on it does not receive the emergency stop either."""
        self._buttons.close()
        super().destroy_node()

    def _take_joint_state(self, message: JointState) -> None:
        self._control.inputs.offer_joint_state(message)
        if self._lockstep:
            self._ticker.offer_joint_state(message)

    def _take_chunk(self, message: ActionChunk) -> None:
        unauthorized = self._watch.unauthorized_chunk_publishers()
        self._control.inputs.offer_chunk(message, foreign=bool(unauthorized))
        if unauthorized:
            self.get_logger().error(unauthorized, throttle_duration_sec=2.0)

    def _on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._auto_arm = False  # an explicit request overrides automatic arming
        if not request.data:
            response.success = self._ticker.disarm()
            response.message = "the arm comes to rest, then it is disarmed"
            if not response.success:
                response.message = f"not disarmed: {NO_ANSWER}. The arm brakes and is held; stop it at its controller"
            return response
        answer = self._complaint() or self._ticker.ask(self._arm, NO_ANSWER)
        response.success = answer == ""
        response.message = answer or "armed: the arm holds until valid chunks come"
        return response

    def _arm(self) -> str:
        return self._control.arm(self._ticker.now())

    def _complaint(self) -> str:
        """Return what prevents arming, apart from the state of the robot."""
        if ended := self._ticker.ended:
            return f"the {' and the '.join(ended)} has ended: start the node again"
        return (
            self._selftest.complaint()
            or self._watch.complaint()
            or self._watch.unheard()
            or self._control.estop.missing(time.monotonic())
        )

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        answer = self._ticker.ask(lambda: self._control.reset(self._ticker.now()), NO_ANSWER)
        response.success, response.message = answer == "", answer or "disarmed"
        return response

    async def _on_selftest(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Run the fault table and respond when it is done; everything else continues meanwhile."""
        del request
        finished: Future = Future()

        def tell(complaint: str) -> None:
            self._on_tested(complaint)
            finished.set_result(complaint)

        if not self._selftest.start(tell):
            response.message = self._selftest.complaint() or "the node is closing"
            return response
        complaint = await finished
        response.success, response.message = complaint == "", complaint or self._selftest.sentence()
        return response

    def _on_tested(self, complaint: str) -> None:
        """Report the result of the self-test; a layer that failed it sends no more commands."""
        self._control.note(f"self-test: {self._selftest.sentence()}")
        if complaint:
            self._ticker.request_disarm()

    def _look(self) -> None:
        """Check for lost and unauthorized publishers, arm if requested, and log the control thread's notes."""
        self._buttons.find_publishers()
        self._polling.names = self._watch.publisher_names()
        self._foreign = self._watch.foreign()
        if self.active and self._auto_arm and not self._complaint():
            asked = time.monotonic()
            self._ticker.post(lambda: self._arm_by_itself(asked))
        for line in self._control.take_notes():
            self.get_logger().info(line)

    def _arm_by_itself(self, asked: float) -> None:
        """Arm, unless the request (`asked`: s, steady clock) is so old that there may be an objection by now."""
        if self._auto_arm and time.monotonic() - asked <= ANSWER_TIMEOUT and self._arm() == "":
            self._auto_arm = False

    def health(self) -> list[DiagnosticStatus]:
        """Report the state, the counters and the duration of ticks."""
        if not self.active:
            return []
        self._look_for_controllers()
        control = self._control
        levels = {
            SafetyState.RUN: DiagnosticStatus.OK,
            SafetyState.DISARMED: DiagnosticStatus.OK,
            SafetyState.ESTOP: DiagnosticStatus.ERROR,
        }
        level = levels.get(control.state, DiagnosticStatus.WARN)
        durations = np.array(control.durations or [0.0]) * 1e3
        values = {
            "state": control.state.name,
            **vars(control.counters),
            "tick_ms_p50": f"{np.percentile(durations, 50):.3f}",
            "tick_ms_p99": f"{np.percentile(durations, 99):.3f}",
            "realtime_priority": self._realtime,
            "selftest": self._selftest.sentence(),
        }
        sentence = control.sentence
        if complaint := self._complaint():
            busy = complaint.startswith(UNDER_WAY)
            level, sentence = DiagnosticStatus.WARN if busy else DiagnosticStatus.ERROR, complaint
        return [diagnostic(self.get_name(), level, sentence, values)]

    def _look_for_controllers(self) -> None:
        """Log commands without a receiver: the preflight may not have run, and a controller can end later."""
        unheard = self._watch.unheard()
        if not unheard:
            self._throttled.settle("controllers")
        elif time.monotonic() > self._found_by:
            self._throttled.report("controllers", unheard, unheard)

    def _publisher(self, kind: type, topic: str, profile: str) -> Callable[[object], None]:
        publisher = self.create_publisher(kind, topic, qos(profile))
        self._own(publisher, self.destroy_publisher)
        return publisher.publish

    def _subscription(self, kind: type, topic: str, callback: Callable[..., None], profile: str) -> None:
        self._own(self.create_subscription(kind, topic, callback, qos(profile)), self.destroy_subscription)

    def _own(self, thing: object, destroy: Callable[..., object]) -> None:
        self._made.append(lambda: destroy(thing))


def _never_wait_for_a_reader() -> None:
    """Drop log lines when nobody reads them: a full pipe would block every thread of the process."""
    for stream in (1, 2):
        if stat.S_ISFIFO(os.fstat(stream).st_mode):
            os.set_blocking(stream, False)


def main() -> int:
    """Run the node."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    _never_wait_for_a_reader()
    prefer_process(NICENESS)  # before the middleware creates its threads
    return run_node(SafetyNode)


if __name__ == "__main__":
    raise SystemExit(main())
