"""Control thread and watchdog, each preempted where it hurts: what is published leads on from what was published."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.clock import Clock
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from vla_ros.msg import PolicyStatus
from vla_ros.nodes.safety import control as control_module
from vla_ros.nodes.safety.control import SafetyControl
from vla_ros.robot.contract import load_contract
from vla_ros.ros.messages.commands import commanded_point
from vla_ros.ros.messages.conversions import chunk_to_message, seconds_to_stamp, stamp_to_seconds
from vla_ros.safety.motion.joint_motion import JointStep
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.watch.clock_offset import ClockOffset
from vla_ros.safety.watch.estop import EstopSignal
from vla_ros.safety_bench.referee.referee import Referee
from vla_ros.safety_bench.referee.trajectory_controller import (
    Release,
    Replacement,
    TimedTrajectory,
    TrajectoryControllerModel,
)
from vla_ros.types import ActionChunk, SafetyDecision, SafetyState

CONTRACT, PARAMETERS = load_contract("panda"), load_parameters()
PERIOD, BUDGET = PARAMETERS.timing.period, PARAMETERS.timing.tick_budget
CONTROLLERS = (
    TrajectoryControllerModel(1000.0, Release.JAZZY),
    TrajectoryControllerModel(500.0, Release.JAZZY, Replacement.DEFERRED, phase=0.2),
)


class Bench:
    """The two threads of the safety node as calls on a virtual clock; an ideal arm, and a policy that never rests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 500.0
        clock = SimpleNamespace(monotonic=lambda: self.now, perf_counter=lambda: self.now)
        monkeypatch.setattr(control_module, "time", clock)
        self.sent: list[tuple[float, JointTrajectory]] = []
        self.control = SafetyControl(
            CONTRACT,
            PARAMETERS,
            publish_arm=lambda message: self.sent.append((self.now, message)),
            publish_gripper=lambda message: None,
            publish_status=lambda message: None,
            estop=EstopSignal(),
            take_heartbeats=lambda: [PolicyStatus(state=PolicyStatus.RUNNING, inferences=self.sequence)],
            clock=Clock,
            lockstep=False,
        )
        nanoseconds = lambda: round(self.now * 1e9)  # noqa: E731
        self.control._messages.offset = ClockOffset(nanoseconds, nanoseconds)
        self.sequence, self.ticks = 0, 0
        for _ in range(20):
            self.tick()
        assert self.control.arm(self.now) == ""
        for _ in range(80):
            self.tick()
        assert self.control.state is SafetyState.RUN

    def feed(self) -> None:
        """Deliver the arm's state, and a chunk every tenth time."""
        point = commanded_point(self.sent[-1][1]) if self.sent else None
        q = CONTRACT.joints.home if point is None else point.positions
        names = [*CONTRACT.joints.names, *CONTRACT.gripper.names]
        message = JointState(name=names, position=[*q, 0.04, 0.04], velocity=[0.0] * 9)
        message.header.stamp = seconds_to_stamp(self.now - 490.0)
        self.control.inputs.offer_joint_state(message, self.now)
        self.ticks += 1
        if self.ticks % 10 == 0:
            self.sequence += 1
            action = CONTRACT.action
            rows = np.zeros((action.horizon, action.width))
            rows[:, 1] = 0.03 * np.arange(1, action.horizon + 1)
            stamp = self.now - 490.0
            chunk = ActionChunk(rows, action.period, stamp, action.fingerprint, sequence=self.sequence)
            self.control.inputs.offer_chunk(chunk_to_message(chunk), foreign=False)

    def tick(self, after: float = PERIOD) -> None:
        """Let the control thread run `after` s later."""
        self.now += after
        self.feed()
        self.control.tick(self.now)

    def preempt(self, seconds: float) -> None:
        """Let the control thread run while the watchdog holds the lock: it computes, and waits with its command."""
        waiting: list[tuple[SafetyDecision, float]] = []
        command, self.control._command = self.control._command, lambda *command: waiting.append(command)  # type: ignore[method-assign]
        end = self.now + seconds
        self.tick(min(PERIOD, seconds))
        self.now = max(self.now, end)
        self.control._command = command  # type: ignore[method-assign]
        self.waiting = waiting

    def resume(self) -> None:
        """Let the control thread publish what it has waited with."""
        for decision, now in self.waiting:
            self.control._command(decision, now)

    def violations(self) -> dict[str, int]:
        """Return the violations of what a controller makes of all that was published."""

        def rows(message: JointTrajectory, name: str) -> np.ndarray:
            return np.array([getattr(point, name) for point in message.points])

        trajectories = [
            TimedTrajectory(
                at + 2e-4,
                stamp_to_seconds(message.header.stamp),
                np.array(
                    [point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in message.points]
                ),
                rows(message, "positions"),
                rows(message, "velocities"),
                rows(message, "accelerations"),
            )
            for at, message in self.sent
        ]
        judged = Referee(CONTRACT, PERIOD).judge_trajectories(
            trajectories, start=CONTRACT.joints.home, controllers=CONTROLLERS
        )
        return {kind: count for kind, count in judged.violations.items() if count}


def once(owner: object, name: str, action: Callable[[], None], *, after: bool) -> Callable[..., object]:
    """Replace a method by one that runs `action` before or after its first call, and return the method."""
    method = getattr(owner, name)

    def replaced(*arguments: object) -> object:
        setattr(owner, name, method)
        if not after:
            action()
        result = method(*arguments)
        if after:
            action()
        return result

    setattr(owner, name, replaced)
    return method


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


@pytest.mark.parametrize("seconds", [0.004, 0.0105, 0.024])
@pytest.mark.parametrize("place", ["before its lateness is checked", "while it withdraws a step"])
def test_watchdog_preempted_with_its_command(bench: Bench, place: str, seconds: float) -> None:
    """The control thread makes its step meanwhile, from a stop that nobody has published."""
    bench.now += PERIOD + BUDGET + 1e-4  # a tick that is late: the watchdog makes its command
    control, motion = bench.control, bench.control._supervisor._motion
    if place.startswith("before"):
        once(control._messages, "trajectory", lambda: bench.preempt(seconds), after=False)
    else:
        once(motion, "withdraw", lambda: bench.preempt(seconds), after=True)
        bench.now += PERIOD
    bench.waiting = []
    control.on_deadline_missed(bench.now)
    bench.resume()
    for _ in range(60):
        bench.tick()
    assert bench.violations() == {}


@pytest.mark.parametrize("seconds", [0.031, 0.07])
def test_watchdog_that_wakes_first_after_a_stall(bench: Bench, seconds: float) -> None:
    """Nothing was published for longer than a controller tolerates: the motion comes to rest before it continues."""
    bench.now += seconds
    bench.control.on_deadline_missed(bench.now)
    bench.tick(1e-3)
    for _ in range(60):
        bench.tick()
    assert bench.violations() == {}
    assert bench.control.state in (SafetyState.RUN, SafetyState.SLOW)


def test_watchdog_that_waited_while_the_command_was_published(bench: Bench) -> None:
    """It woke because this tick's command was late, and gets the lock after the control thread: nothing is missing."""
    bench.now += BUDGET
    bench.tick()
    published = len(bench.sent)
    bench.control.on_deadline_missed(bench.now)
    assert len(bench.sent) == published
    bench.now += BUDGET
    bench.control.on_deadline_missed(bench.now)
    assert len(bench.sent) == published
    for _ in range(60):
        bench.tick()
    assert bench.violations() == {}


def test_control_thread_preempted_with_its_command(bench: Bench) -> None:
    """The watchdog makes the next rows of the stop, and the step comes after them."""
    command = bench.control._command
    held: list[tuple[SafetyDecision, float]] = []
    bench.control._command = lambda *arguments: held.append(arguments)  # type: ignore[method-assign]
    bench.tick()
    bench.control._command = command  # type: ignore[method-assign]
    for _ in range(2):
        bench.now += PERIOD + BUDGET
        bench.control.on_deadline_missed(bench.now)
    command(*held[0])
    for _ in range(60):
        bench.tick()
    assert bench.violations() == {}


def test_a_step_that_does_not_lead_on_is_not_published(bench: Bench) -> None:
    """Whatever made it: here somebody has changed the motion behind the back of both threads."""
    joints = bench.control._supervisor._motion.joints
    step: JointStep = joints.current
    bench.tick()
    joints.rejoin(step)
    joints.brake()
    joints.schedule(joints.current.due + PERIOD)
    for _ in range(60):
        bench.tick()
    assert bench.violations() == {}
    assert bench.control.state is SafetyState.RUN


def test_arming_after_a_step_that_was_replaced(bench: Bench) -> None:
    """The control thread is preempted with its step until the watchdog has stopped the arm; then it is armed anew."""
    supervisor = bench.control._supervisor
    motion = supervisor._motion

    def preempted() -> None:
        bench.now += BUDGET
        while not motion.joints.resting:
            bench.now += PERIOD
            bench.control.on_deadline_missed(bench.now)

    once(motion, "follow", preempted, after=True)
    bench.tick()
    bench.control.disarm(bench.now)
    for _ in range(60):
        bench.tick()
    assert bench.control.state is SafetyState.DISARMED
    assert bench.control.arm(bench.now) == ""
    for _ in range(20):
        bench.tick()
    assert bench.violations() == {}
