"""Inject the edge cases into a running graph. Each function returns the time of injection, s on the steady clock.

A violated expectation raises `GraphError`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_ros.client.observer import MOVING
from vla_ros.msg import SafetyStatus
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, GraphError
from vla_ros.safety_bench.graph.scenario import Scenario
from vla_ros.safety_bench.graph.setups import BUTTON_TIMEOUT
from vla_ros.safety_bench.graph.stage import READY_LIMIT

BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.VOLATILE)

ANSWER_LIMIT = 1.0
"""Maximum response time to disarming while something else is in progress, s."""

GROWTH_LIMIT = 64e6
"""Maximum memory growth of the safety node from unusable joint states, bytes."""

MANY_NAMES = 200_000


def require(scenario: Scenario, condition: Callable[[], bool], complaint: str, limit: float = 3.0) -> None:
    """Wait for an expected condition.

    Raises:
        GraphError: with `complaint` when it does not hold within `limit` s.
    """
    scenario.wait_for(condition, complaint, limit)


def ask(scenario: Scenario, arm: bool) -> Any:  # noqa: ANN401 (a response)
    """Call the safety node to arm or disarm; return its response."""
    client = scenario.graph.node.create_client(SetBool, "/vla/arm")
    try:
        return scenario.operator.call(client, SetBool.Request(data=arm))
    finally:
        scenario.graph.node.destroy_client(client)


def trigger(scenario: Scenario, name: str) -> Any:  # noqa: ANN401 (a response)
    """Call a `Trigger` service; return its response."""
    client = scenario.graph.node.create_client(Trigger, name)
    try:
        return scenario.operator.call(client, Trigger.Request())
    finally:
        scenario.graph.node.destroy_client(client)


def arm_at_once(scenario: Scenario) -> float:
    """Disarm, then immediately request arming ten times."""
    at = time.monotonic()
    ask(scenario, False)
    for _ in range(10):
        ask(scenario, True)
    return at


def joint_state(scenario: Scenario, off: float = 0.4) -> JointState:
    """Return a joint state that differs from the commanded posture by `off` rad in one joint."""
    names = [*scenario.contract.joints.names, *scenario.contract.gripper.names]
    positions = [*scenario.recorder.positions[-1], *scenario.contract.gripper.joint_positions(0.04)]
    positions[1] += off
    message = JointState(name=names, position=positions, velocity=[0.0] * len(names))
    message.header.stamp = scenario.observer.safety.header.stamp
    return message


def arm_among_false(scenario: Scenario, contract: RobotContract) -> float:
    """Arm repeatedly while every other joint state is false; each first command must be where the last one was."""
    profile = qos("joint_states_out")
    publisher = scenario.unauthorized_publisher(
        JointState, contract.controllers.joint_states_topic, profile, "unauthorized"
    )
    at = time.monotonic()
    reach = float(contract.joints.velocity.max()) * scenario.period * 1.01
    for _ in range(4):
        ask(scenario, False)
        require(scenario, lambda: scenario.observer.safety.state == SafetyStatus.DISARMED, "it was not disarmed")
        before = np.array(scenario.recorder.positions[-1])
        heard = len(scenario.recorder.positions)
        for _ in range(20):
            publisher.publish(joint_state(scenario))
            ask(scenario, True)
            if len(scenario.recorder.positions) > heard:
                first = np.array(scenario.recorder.positions[heard])
                if (jump := float(np.abs(first - before).max())) > reach:
                    raise GraphError(f"the first command after arming is {jump:.2f} rad from the last one")
    return at


def away_and_back(scenario: Scenario) -> float:
    """Move the measured posture far from the command and back; the arm must not resume by itself."""
    at = scenario.tampered(states="far")
    given_up = SafetyStatus.DISARMED
    require(scenario, lambda: scenario.observer.safety.state == given_up, "it goes on although the arm is elsewhere")
    scenario.take_away()
    if scenario.observer.wait(lambda: scenario.observer.safety.state in MOVING, 3.0):
        raise GraphError("it went on by itself after the arm had been elsewhere")
    return at


def best_effort(scenario: Scenario, kind: type, topic: str, message: Any) -> float:  # noqa: ANN401 (a message)
    """Publish best-effort, without waiting for a subscriber to match."""
    node = scenario.graph.node
    made = node.create_publisher(kind, topic, BEST_EFFORT)
    scenario.later(lambda: node.destroy_publisher(made))
    return scenario.repeatedly(lambda: made.publish(message), 0.02)


def best_effort_estop(scenario: Scenario) -> float:
    """Press an emergency stop that joins during motion and is best-effort."""
    return best_effort(scenario, Bool, "/vla/estop", Bool(data=True))


def best_effort_stop(scenario: Scenario) -> float:
    """Publish "stop" from a best-effort publisher that joins during motion."""
    return best_effort(scenario, String, "/vla/instruction", String(data="stop"))


def release(scenario: Scenario) -> None:
    """Release this process's button and reset."""
    scenario.take_away()
    scenario.tap(False)
    time.sleep(0.3)
    scenario.leave_estop()


def reset(scenario: Scenario) -> None:
    """Reset an emergency stop whose publisher is gone, so there is no button to release."""
    scenario.take_away()
    scenario.leave_estop()


def task_again(scenario: Scenario) -> None:
    """Send the scene's own instruction again."""
    scenario.take_away()
    scenario.operator.say(str(scenario.observer.task.instruction), READY_LIMIT)


def in_estop(scenario: Scenario) -> None:
    """Wait for the emergency stop."""
    require(scenario, lambda: scenario.observer.safety.state == SafetyStatus.ESTOP, "the e-stop was not heard")


def false_while_pressed(scenario: Scenario) -> float:
    """Press, publish a release from another publisher, and try to reset."""
    other = scenario.unauthorized_publisher(Bool, "/vla/estop", qos("estop"))
    at = scenario.tap(True)
    in_estop(scenario)
    for _ in range(5):
        other.publish(Bool(data=False))
        time.sleep(0.05)
    if trigger(scenario, "/vla/reset").success:
        raise GraphError("the e-stop was reset although its button is down")
    return at


def one_true(scenario: Scenario) -> float:
    """Press once while another publisher floods the topic with releases."""
    other = scenario.unauthorized_publisher(Bool, "/vla/estop", qos("estop"))
    scenario.repeatedly(lambda: [other.publish(Bool(data=False)) for _ in range(100)], 1e-3)
    scenario.tap(False)
    at = scenario.tap(True)
    in_estop(scenario)
    return at


def kill_one_of_two(scenario: Scenario) -> float:
    """Kill one of two buttons that publish continuously."""
    other = scenario.unauthorized_publisher(Bool, "/vla/estop", qos("estop"))
    scenario.later(lambda: scenario.plug_in())
    scenario.repeatedly(lambda: other.publish(Bool(data=False)), 0.05)
    time.sleep(BUTTON_TIMEOUT)
    return scenario.kill_button()


def round_trip(scenario: Scenario) -> float:
    """Press, then cycle the safety node through cleanup and back."""
    at = scenario.tap(True)
    in_estop(scenario)
    for transition in (DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE):
        scenario.lifecycle.change("safety_node", transition, READY_LIMIT)
    time.sleep(0.5)
    if ask(scenario, True).success or scenario.observer.safety.state != SafetyStatus.ESTOP:
        raise GraphError(f"after the transitions it is {scenario.observer.safety.state_name}, with the button down")
    return at


def one_shot(scenario: Scenario) -> float:
    """Publish once from a participant that then leaves."""
    publisher = scenario.unauthorized_publisher(Bool, "/vla/estop", qos("estop"), "one_shot")
    at = time.monotonic()
    publisher.publish(Bool(data=True))
    publisher.wait_for_all_acked()
    scenario.take_away()
    in_estop(scenario)
    return at


def stop_without_node(scenario: Scenario) -> float:
    """Publish "stop" while the instruction node is stopped."""
    publisher = scenario.publisher(String, "/vla/instruction", qos("instruction"))
    scenario.kill("instruction_node", signal.SIGSTOP)
    at = time.monotonic()
    publisher.publish(String(data="stop"))
    return at


def selftest_then_disarm(scenario: Scenario) -> float:
    """Call the self-test during motion: the motion must continue and disarming must be answered."""
    client = scenario.graph.node.create_client(Trigger, "/vla/selftest")
    scenario.later(lambda: scenario.graph.node.destroy_client(client))
    if not client.wait_for_service(READY_LIMIT):
        raise GraphError("there is no /vla/selftest")
    at = time.monotonic()
    client.call_async(Trigger.Request())
    time.sleep(0.3)
    if scenario.observer.safety.state not in MOVING:
        raise GraphError(f"the self-test stopped the motion: {scenario.observer.safety.sentence}")
    began = time.monotonic()
    answer = ask(scenario, False)
    if not answer.success or time.monotonic() - began > ANSWER_LIMIT:
        raise GraphError(f"disarming took {time.monotonic() - began:.1f} s: {answer.message}")
    return at


def posture(scenario: Scenario) -> JointTrajectory:
    """Return a command to the last commanded posture."""
    point = JointTrajectoryPoint(positions=list(scenario.recorder.positions[-1]))
    point.time_from_start.nanosec = 500_000_000
    return JointTrajectory(joint_names=list(scenario.contract.joints.names), points=[point])


def many_names(scenario: Scenario) -> float:
    """Publish joint states with 200,000 names: they must be rejected and not stored."""
    topic = scenario.contract.controllers.joint_states_topic
    publisher = scenario.unauthorized_publisher(JointState, topic, qos("joint_states_out"), "unauthorized")
    message = JointState(name=[f"joint_{i}" for i in range(MANY_NAMES)], position=[0.0] * MANY_NAMES)
    pid = scenario.graph.process("safety_node").pid
    before, at = resident(pid), time.monotonic()
    for _ in range(20):
        message.header.stamp = scenario.observer.safety.header.stamp
        publisher.publish(message)
        time.sleep(0.1)
    if (growth := resident(pid) - before) > GROWTH_LIMIT:
        raise GraphError(f"the safety node grew by {1e-6 * growth:.0f} MB for joint states that it cannot use")
    return at


def resident(pid: int) -> float:
    """Return the resident memory of a process, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return 1024.0 * float(line.split()[1])
    raise GraphError(f"process {pid} says nothing of its memory")


def sim_time(scenario: Scenario) -> float:
    """Change use_sim_time of the running safety node; this must be refused."""
    client: Any = scenario.graph.node.create_client(SetParameters, "/safety_node/set_parameters")
    value = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=False)
    at = time.monotonic()
    request = SetParameters.Request(parameters=[Parameter(name="use_sim_time", value=value)])
    answer = scenario.operator.call(client, request)
    scenario.graph.node.destroy_client(client)
    if any(result.successful for result in answer.results):
        raise GraphError("use_sim_time of the running safety node was changed")
    return at
