"""Faults of other participants: unauthorized publishers, floods, QoS mismatch, stops, live parameters."""

from __future__ import annotations

import time
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from vla_ros.msg import ActionChunk, Instruction
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import GraphError
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety_bench.graph.faults.fault import GraphFault
from vla_ros.safety_bench.graph.scenario import Scenario
from vla_ros.safety_bench.graph.setups import BUTTON_TIMEOUT

SENDERS = "two publishers of chunks, a foreign one, QoS mismatch"
INSTRUCTIONS = "instruction flood, nonsense, changed in mid-motion"
ESTOP = "e-stop in motion, its publisher lost, its reset"
DISCOVERED = (1.1, "until the middleware has noticed the other publisher")
"""Maximum time from a publisher's first message until a reader on this machine has matched it, s, and its cause.

Fast DDS's endpoint discovery repeats a lost announcement after 1 s, and the reply takes another 0.1 s. Nothing is
received before the match.
"""

WATCH = 0.1
"""Period at which the node checks the publishers of its topics, s."""

THROUGH_THE_NODE = 0.1
"""Latency of an instruction through the instruction node on a busy machine, s."""


def input_faults(parameters: SafetyParameters) -> list[GraphFault]:
    """Return the faults of this module."""
    del parameters
    arrival = (0.01, "the tick that is under way")
    foreign: dict[str, Any] = {
        "reasons": ("foreign_publisher",),
        "timeout": WATCH + 0.1,
        "notice": DISCOVERED,
    }
    pressed: dict[str, Any] = {"state": "ESTOP", "reasons": ("estop_pressed",), "rearm": True}
    return [
        GraphFault("another sender of chunks", SENDERS, lambda s: _chunks(s, 0.01), Scenario.take_away, **foreign),
        GraphFault(
            "another sender of chunks of NaN",
            SENDERS,
            lambda s: _chunks(s, float("nan")),
            Scenario.take_away,
            **foreign,
        ),
        GraphFault(
            "a sender of chunks with a foreign quality of service",
            SENDERS,
            _careless,
            Scenario.take_away,
            note="it also forbids to arm",
            **foreign,
        ),
        GraphFault("500 sentences at once", INSTRUCTIONS, _flood, Scenario.take_away, state="", timeout=None),
        GraphFault("sentences that are none", INSTRUCTIONS, _nonsense, Scenario.take_away, state="RUN", timeout=None),
        GraphFault(
            "'STOP!!' in motion",
            INSTRUCTIONS,
            lambda s: _say(s, "STOP!!"),
            _say_it_again,
            reasons=("instruction_stop",),
            notice=(THROUGH_THE_NODE, "the instruction node"),
        ),
        GraphFault("emergency stop by topic", ESTOP, lambda s: s.tap(True), _release, notice=arrival, **pressed),
        GraphFault(
            "the emergency stop's publisher goes away",
            ESTOP,
            Scenario.lose_tap,
            _release,
            timeout=WATCH,
            notice=arrival,
            **pressed,
        ),
        GraphFault(
            "kill -9 of a speaking emergency stop",
            ESTOP,
            Scenario.kill_button,
            _plug_in,
            setup="button",
            timeout=BUTTON_TIMEOUT,
            notice=arrival,
            **pressed,
        ),
        GraphFault(
            "a live parameter out of range",
            "live parameter out of range, limits missing",
            _set_parameter,
            state="RUN",
            timeout=None,
        ),
    ]


def _chunks(scenario: Scenario, value: float) -> float:
    """Act as a second publisher of chunks, ten times a second."""
    publisher = scenario.unauthorized_publisher(ActionChunk, "/vla/action_chunk", qos("action_chunk"))
    message = foreign_chunk(scenario, value)
    return scenario.repeatedly(lambda: publisher.publish(message), 0.1)


def foreign_chunk(scenario: Scenario, value: float) -> ActionChunk:
    """Return a valid chunk of another publisher, with all actions equal to `value`."""
    action = scenario.contract.action
    message = ActionChunk(
        policy="unauthorized",
        action_specification=action.fingerprint,
        horizon=action.horizon,
        width=action.width,
        period=action.period,
        actions=[value] * (action.horizon * action.width),
        trust=1.0,
        instruction_sequence=int(scenario.observer.instruction.sequence),
        sequence=1 << 40,
    )
    message.observation_stamp = scenario.observer.safety.header.stamp
    return message


def _careless(scenario: Scenario) -> float:
    """Publish chunks with QoS that the safety node cannot receive: none arrive, but the publisher is unauthorized."""
    profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.VOLATILE)
    node = scenario.graph.node
    made = node.create_publisher(ActionChunk, "/vla/action_chunk", profile)
    scenario.later(lambda: node.destroy_publisher(made))
    return time.monotonic()


def _flood(scenario: Scenario) -> float:
    publisher = scenario.publisher(String, "/vla/instruction", qos("instruction"))
    sentence = str(scenario.observer.instruction.text)
    at = time.monotonic()
    for i in range(500):
        publisher.publish(String(data=f"pick up the thing number {i}" if i % 2 else "\x07" * 5000))
    for _ in range(3):
        time.sleep(1.1)  # until the rate limit admits instructions again
        publisher.publish(String(data=sentence))
    return at


def _nonsense(scenario: Scenario) -> float:
    publisher = scenario.publisher(String, "/vla/instruction", qos("instruction"))
    at = time.monotonic()
    for text in ("", "   ", "\x00\x01\x02", "x" * 100_000, "\ufffd\ufffd", "\u202e\u200b"):
        publisher.publish(String(data=text))
        time.sleep(0.05)
    return at


def _say(scenario: Scenario, text: str) -> float:
    publisher = scenario.publisher(String, "/vla/instruction", qos("instruction"))
    at = time.monotonic()
    publisher.publish(String(data=text))
    return at


def _say_it_again(scenario: Scenario) -> None:
    """Send the scene's own instruction again."""
    scenario.take_away()
    scenario.operator.say(str(scenario.observer.task.instruction), 20.0)


def _release(scenario: Scenario) -> None:
    scenario.tap(False)
    time.sleep(0.3)
    scenario.leave_estop()


def _plug_in(scenario: Scenario) -> None:
    scenario.plug_in()
    time.sleep(0.3)
    scenario.leave_estop()


def _set_parameter(scenario: Scenario) -> float:
    """Set a parameter of the running safety node.

    Raises:
        GraphError: when the node accepts it.
    """
    client: Any = scenario.graph.node.create_client(SetParameters, "/safety_node/set_parameters")
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="config/nowhere.yaml")
    at = time.monotonic()
    answer = scenario.operator.call(client, SetParameters.Request(parameters=[Parameter(name="safety", value=value)]))
    scenario.graph.node.destroy_client(client)
    if any(result.successful for result in answer.results):
        raise GraphError("a live parameter of the safety node was changed")
    return at


def malformed_instruction() -> Instruction:
    """Return an instruction that no reader can use, so that each one adds a log line."""
    return Instruction(kind=77, text="", sequence=0)
