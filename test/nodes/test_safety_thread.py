"""Control thread and watch against a solver that is late now and then: every command within limits, one a period."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.clock import Clock
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from vla_ros.msg import PolicyStatus, SafetyStatus
from vla_ros.nodes.safety import thread as safety_thread
from vla_ros.nodes.safety.control import SafetyControl
from vla_ros.nodes.safety.thread import ControlThread
from vla_ros.robot.contract import load_contract
from vla_ros.robot.differential_ik import DifferentialIK
from vla_ros.ros.messages.commands import commanded_point, commanded_rows, due
from vla_ros.ros.messages.conversions import chunk_to_message, seconds_to_stamp
from vla_ros.safety.motion.joint_motion import HISTORY, JointStep
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.watch.estop import EstopSignal
from vla_ros.types import ActionChunk, SafetyState

CONTRACT, PARAMETERS = load_contract("panda"), load_parameters()
ARM, FINGERS = CONTRACT.joints.names, CONTRACT.gripper.names
PERIOD = PARAMETERS.timing.period


def armed_at(begin: float) -> tuple[SafetyControl, list[JointTrajectory], float]:
    """A control that was armed by ticks from `begin` on, s, steady clock; what it sent, and the time of the last."""
    sent: list[JointTrajectory] = []
    control = SafetyControl(
        CONTRACT,
        PARAMETERS,
        publish_arm=sent.append,
        publish_gripper=lambda message: None,
        publish_status=lambda message: None,
        estop=EstopSignal(),
        take_heartbeats=list,
        clock=Clock,
        lockstep=False,
    )
    for count in range(20):
        now = begin + count * PERIOD
        message = JointState(name=[*ARM, *FINGERS], position=[*CONTRACT.joints.home, 0.04, 0.04], velocity=[0.0] * 9)
        message.header.stamp = seconds_to_stamp(10.0 + count * PERIOD)
        control.inputs.offer_joint_state(message)
        control.tick(now)
    assert control.arm(now) == ""
    return control, sent, now


def test_a_command_that_was_held_up_until_the_controller_has_let_go_is_not_sent() -> None:
    """Decided at a time that is over by seconds when its message is ready, as where the process was stopped."""
    control, sent, now = armed_at(time.monotonic() - 5.0)
    assert control.tick(now + PERIOD).joint_positions is not None
    assert sent == []
    assert control.tick(time.monotonic()).joint_positions is None
    control.on_deadline_missed(time.monotonic())
    assert sent == []


def test_nothing_goes_out_after_a_new_start_until_it_is_armed() -> None:
    control, sent, now = armed_at(time.monotonic() - 20 * PERIOD)
    assert control.tick(now + PERIOD).joint_positions is not None
    assert len(sent) == 1
    control.restart()
    assert control.state is SafetyState.DISARMED
    assert control.command_due == np.inf
    control.on_deadline_missed(time.monotonic())
    assert control.tick(time.monotonic()).joint_positions is None
    assert len(sent) == 1


class Bench:
    """The safety node without its node: an ideal arm and a policy leave messages, commands are kept in their order."""

    def __init__(self) -> None:
        self.commands: list[JointTrajectory] = []
        self.statuses: list[SafetyStatus] = []
        self.change = threading.Condition()
        self.control = SafetyControl(
            CONTRACT,
            PARAMETERS,
            publish_arm=self._on_arm,
            publish_gripper=lambda message: None,
            publish_status=self.statuses.append,
            estop=EstopSignal(),
            take_heartbeats=self._heartbeats,
            clock=Clock,
            lockstep=False,
        )
        self.thread = ControlThread(self.control, PARAMETERS.timing.tick_budget, lockstep=False)
        self.q, self.sequence = list(CONTRACT.joints.home), 0
        self._began, self._over = time.monotonic(), threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True)

    def _heartbeats(self) -> list[PolicyStatus]:
        return [PolicyStatus(state=PolicyStatus.RUNNING, inferences=self.sequence)]

    def _on_arm(self, message: JointTrajectory) -> None:
        with self.change:
            self.q = list(commanded_point(message).positions)
            self.commands.append(message)
            self.change.notify_all()

    def stamp(self) -> float:
        return 10.0 + time.monotonic() - self._began

    def _feed(self) -> None:
        """A joint state every 5 ms, a chunk every 100 ms: to and fro along y."""
        count = 0
        while not self._over.wait(0.005):
            count += 1
            message = JointState(name=[*ARM, *FINGERS], position=[*self.q, 0.04, 0.04], velocity=[0.0] * 9)
            message.header.stamp = seconds_to_stamp(self.stamp())
            self.control.inputs.offer_joint_state(message)
            if count % 20 == 0:
                self.sequence += 1
                actions = np.zeros((12, 7))
                actions[:, 1] = 0.03 * np.arange(1, 13) * (-1) ** (self.sequence // 10)
                seen, mark = self.stamp() - 0.02, CONTRACT.action.fingerprint
                chunk = ActionChunk(actions, 0.1, seen, mark, sequence=self.sequence)
                self.control.inputs.offer_chunk(chunk_to_message(chunk), foreign=False)

    def __enter__(self) -> Bench:
        self._feeder.start()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.thread.stop()
        self._feeder.join(5.0)

    def arm(self) -> None:
        end = time.monotonic() + 30.0
        while (answer := self.thread.ask(lambda: self.control.arm(self.thread.now()), "it does not run")) != "":
            assert time.monotonic() < end, answer
            time.sleep(0.05)

    def wait_for_states(self) -> None:
        end = time.monotonic() + 30.0
        while self.control._supervisor.margins(time.monotonic()).get("joint_state", 0.0) <= 0.0:
            assert time.monotonic() < end
            time.sleep(0.01)

    def wait_for(self, count: int) -> None:
        with self.change:
            assert self.change.wait_for(lambda: len(self.commands) >= count, 60.0), len(self.commands)


@pytest.fixture
def quick(monkeypatch):
    """Nobody waits long for an answer."""
    monkeypatch.setattr(safety_thread, "ANSWER_TIMEOUT", 0.1)


@pytest.fixture
def hung(quick):
    """A bench whose control thread hangs in a request until the event is set."""
    with Bench() as bench:
        release, entered = threading.Event(), threading.Event()
        bench.thread.post(lambda: (entered.set(), release.wait(30.0)))
        assert entered.wait(10.0)
        try:
            yield bench, release
        finally:
            release.set()


def settle(bench):
    """Let the control thread come round twice."""
    for _ in range(2):
        done, end = threading.Event(), time.monotonic() + 10.0
        while bench.thread.post(done.set) is False:
            assert time.monotonic() < end
            time.sleep(0.005)
        assert done.wait(10.0)


def test_what_was_answered_for_too_late_does_not_happen_any_more(hung):
    bench, release = hung
    done = []
    assert bench.thread.ask(lambda: done.append(1) or "", "no answer") == "no answer"
    release.set()
    settle(bench)
    assert done == []


def test_who_gives_up_on_an_arming_under_way_finds_the_robot_disarmed(quick, monkeypatch):
    """It has begun and cannot be taken back; so it is disarmed behind it."""
    release, arm = threading.Event(), SafetyControl.arm

    def slow(self, now):
        answer = arm(self, time.monotonic())
        release.wait(30.0)
        return answer

    with Bench() as bench:
        bench.arm()  # the arm has been seen at rest
        assert bench.thread.disarm()
        settle(bench)
        monkeypatch.setattr(SafetyControl, "arm", slow)
        assert bench.thread.ask(lambda: bench.control.arm(bench.thread.now()), "no answer") == "no answer"
        assert bench.control.state is SafetyState.HOLD  # armed, although the answer was no
        release.set()
        settle(bench)
        assert bench.control.state is SafetyState.DISARMED


def test_no_number_of_requests_pushes_a_disarming_out(hung):
    bench, release = hung
    asked = []
    assert not bench.thread.disarm()  # it has not been done: it must not be said to be
    for i in range(30):
        bench.thread.post(lambda i=i: asked.append(i))
    seen = []
    bench.control.disarm = lambda now: seen.append(now)
    release.set()
    settle(bench)
    assert len(seen) == 1
    assert len(asked) <= 8


def test_a_disarming_overrules_what_was_asked_before_it_and_not_what_is_asked_after(hung):
    bench, release = hung
    order = []
    bench.control.disarm = lambda now: order.append("disarm")
    bench.thread.post(lambda: order.append("before"))
    bench.thread.request_disarm()
    bench.thread.post(lambda: order.append("after"))
    release.set()
    settle(bench)
    assert order == ["disarm", "after"]


def test_a_request_that_raises_ends_nothing_and_leaves_the_robot_disarmed(quick):
    with Bench() as bench:
        bench.arm()
        bench.wait_for(5)
        assert bench.thread.ask(lambda: 1 / 0, "no answer") == "no answer"
        end = time.monotonic() + 10.0
        while bench.control.state is not SafetyState.DISARMED and time.monotonic() < end:
            time.sleep(0.01)
        assert bench.thread.running
        assert bench.thread.ended == ()
        assert bench.control.state is SafetyState.DISARMED
        assert any("ZeroDivisionError" in note for note in bench.control.take_notes())


def test_a_disarming_that_raises_is_tried_again(quick):
    with Bench() as bench:
        tries = []

        def disarm(now):
            tries.append(now)
            if len(tries) < 3:
                raise RuntimeError("not yet")

        bench.control.disarm = disarm
        bench.thread.request_disarm()
        assert bench.thread.disarm()
        assert len(tries) >= 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_ended_is_named_and_does_nothing_any_more(quick):
    with Bench() as bench:
        assert bench.thread.ended == ()

        def end():
            raise SystemExit

        bench.thread.post(end)
        limit = time.monotonic() + 10.0
        while not bench.thread.ended and time.monotonic() < limit:
            time.sleep(0.01)
        assert bench.thread.ended == ("control thread",)
        assert not bench.thread.running
        assert not bench.thread.disarm()
        assert bench.thread.ask(lambda: "done", "no answer") == "no answer"


def shares(commands: list[list[float]]) -> list[float]:
    """Largest share of each joint limit, by finite differences from rest: velocity, acceleration, jerk."""
    joints, q = CONTRACT.joints, np.array(commands)
    still = np.vstack([np.tile(q[0], (3, 1)), q])
    limits = (joints.velocity, joints.acceleration, joints.jerk)
    return [
        float((np.abs(np.diff(still, n=order, axis=0)) / PERIOD**order / limit).max())
        for order, limit in enumerate(limits, 1)
    ]


@pytest.mark.parametrize("longest", [0.004, 0.012, 0.04])
def test_a_solver_that_is_late_now_and_then_brings_no_command_beyond_a_limit(monkeypatch, longest):
    """One solution in five takes up to `longest` s; with 12 and 40 ms, beyond the budget, the watch has to help."""
    rng, program = np.random.default_rng(4), DifferentialIK._program

    def late(self, *arguments):
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0.0, longest))
        return program(self, *arguments)

    with Bench() as bench:
        bench.arm()
        bench.wait_for(30)
        monkeypatch.setattr(DifferentialIK, "_program", late)
        bench.wait_for(400)
    assert max(shares(commanded_rows(bench.commands, PERIOD))) <= 1.0 + 1e-6
    assert np.abs(np.diff(commanded_rows(bench.commands, PERIOD), axis=0)).max() > 1e-4  # it moved
    if longest > PARAMETERS.timing.tick_budget + PERIOD:
        assert bench.control.counters.overruns > 0


def test_a_control_thread_that_hangs_is_braked_for_until_it_comes_back(monkeypatch):
    with Bench() as bench:
        bench.arm()
        bench.wait_for(120)
        release, program = threading.Event(), DifferentialIK._program

        def hang(self, *arguments):
            release.wait(10.0)
            return program(self, *arguments)

        monkeypatch.setattr(DifferentialIK, "_program", hang)
        before = len(bench.commands)
        bench.wait_for(before + 60)  # 60 periods: twice as long as the longest stop
        last, before_last = (commanded_point(one).positions for one in bench.commands[-2:])
        assert last == before_last  # at rest, and actively held
        assert bench.control.counters.overruns >= 50
        release.set()
        bench.wait_for(len(bench.commands) + 60)
    assert max(shares(commanded_rows(bench.commands, PERIOD))) <= 1.0 + 1e-6
    assert "tick_overrun" in {status.reason for status in bench.statuses}


def test_a_command_whose_message_is_ready_too_late_is_a_row_of_the_known_stop() -> None:
    late: list[int] = []
    with Bench() as bench:
        messages, own = bench.control._messages, bench.control._messages.trajectory

        def slow(step: JointStep, tick: float, published: float) -> JointTrajectory:
            """Take longer for a step that the arm is to move by, now and then."""
            if moving and step.velocities.any() and step.stopped_rows == 0 and step.serial % 25 == 0:
                late.append(len(bench.commands))
                time.sleep(0.008)
            return own(step, tick, published)

        moving = False
        messages.trajectory = slow
        bench.wait_for_states()
        bench.arm()
        bench.wait_for(100)
        moving = True
        end = time.monotonic() + 60.0
        while len(late) < 5 or len(bench.commands) <= late[-1]:
            assert time.monotonic() < end, late
            time.sleep(0.05)
    for index in late:
        before, sent = bench.commands[index - 1 : index + 1]
        rows = round((due(sent) - due(before)) / PERIOD)
        if rows <= 2:  # so far every row of the stop is a point
            assert list(commanded_point(sent).positions) == list(before.points[HISTORY + rows].positions)


class Timeline:
    """Stands for the module `time`: only sleeping takes time, and what a tick is told to take."""

    def __init__(self) -> None:
        self.now = 50.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, duration: float) -> None:
        self.slept.append(duration)
        self.now += duration


def ticks_of(monkeypatch: pytest.MonkeyPatch, period: float, durations: list[float]) -> tuple[list[float], list[float]]:
    """Run the control loop with ticks of these durations, s; return when they began, s, and the sleep before each."""
    timeline, began = Timeline(), []
    monkeypatch.setattr(safety_thread, "time", timeline)

    def tick(now: float) -> None:
        began.append(now - 50.0)
        timeline.now += durations[len(began) - 1]
        if len(began) == len(durations):
            thread._stopping.set()

    control = SimpleNamespace(period=period, tick=tick, note=pytest.fail)
    thread = ControlThread(control, 0.005, lockstep=False)
    thread._run()
    return began, timeline.slept


@pytest.mark.parametrize("period", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("share", [0.95, 0.9999, 1.0, 1.2, 3.7])
def test_a_loop_whose_ticks_fill_their_period_leaves_the_processor_to_others(
    monkeypatch: pytest.MonkeyPatch, period: float, share: float
) -> None:
    began, slept = ticks_of(monkeypatch, period, [share * period] * 40)
    assert len(slept) == len(began)
    assert min(slept) >= (0.001 if share > 1.0 else min(0.001, 0.1 * period)) - 1e-12


def test_the_pause_of_a_late_loop_is_lateness_and_the_grid_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick at 0.02 s takes 34 ms: those at 0.03, 0.04 and 0.05 s are over; one comes at once, the next in time."""
    began, slept = ticks_of(monkeypatch, 0.01, [0.003, 0.034, 0.003, 0.003])
    assert began == pytest.approx([0.01, 0.02, 0.055, 0.06])
    assert slept == pytest.approx([0.01, 0.007, 0.001, 0.002])
