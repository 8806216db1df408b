"""What a polled subscription says of messages that it could not keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from rclpy.qos import QoSProfile
from std_msgs.msg import Bool

from vla_ros.msg import ActionChunk, Instruction
from vla_ros.nodes.dds_domains import free_domain
from vla_ros.nodes.polled import PolledSubscription
from vla_ros.nodes.qos import qos
from vla_ros.nodes.runner import RosLink
from vla_ros.nodes.safety_inputs import Inputs
from vla_ros.nodes.safety_polling import CHUNK_TOPIC, ESTOP_TOPIC, TASK_TOPIC, SafetyPolling
from vla_ros.robot.contract import load_contract
from vla_ros.safety.estop import EstopSignal

DEADLINE = 20.0
DEPTH = 10


@pytest.fixture
def link() -> Iterator[RosLink]:
    link = RosLink("polled", free_domain())
    yield link
    link.close()


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(("sent", "overrun"), [(DEPTH - 1, False), (DEPTH + 5, True)])
def test_a_queue_that_was_found_full_is_told(link: RosLink, sent: int, overrun: bool) -> None:
    polled = PolledSubscription(link.node, Bool, "button", QoSProfile(depth=DEPTH))
    publisher = link.node.create_publisher(Bool, "button", QoSProfile(depth=100))
    wait(lambda: publisher.get_subscription_count() > 0)
    for _ in range(sent):
        publisher.publish(Bool(data=False))
    assert publisher.wait_for_all_acked()
    assert len(polled.take()) == min(sent, DEPTH)
    assert polled.overrun is overrun
    polled.take()
    assert not polled.overrun
    polled.close()


def test_an_emergency_stop_whose_queue_ran_over_counts_as_pressed(link: RosLink) -> None:
    contract = load_contract("panda")
    estop = EstopSignal()
    polling = SafetyPolling(link.node, contract, Inputs(contract), estop, lockstep=False)
    publisher = link.node.create_publisher(Bool, ESTOP_TOPIC, QoSProfile(depth=1000))
    wait(lambda: publisher.get_subscription_count() > 1)  # a reliable and a best-effort one
    publisher.publish(Bool(data=True))
    for _ in range(500):
        publisher.publish(Bool(data=False))
    assert publisher.wait_for_all_acked()
    polling.poll()
    assert estop.take(time.monotonic())
    assert "lost" in estop.why(time.monotonic())
    polling.close()


def test_a_task_from_before_the_activation_is_kept_and_a_chunk_is_not(link: RosLink) -> None:
    contract = load_contract("panda")
    inputs = Inputs(contract)
    tasks = link.node.create_publisher(Instruction, TASK_TOPIC, qos("task"))
    chunks = link.node.create_publisher(ActionChunk, CHUNK_TOPIC, qos("action_chunk"))
    tasks.publish(Instruction(text="pick up the red cube", sequence=3, kind=Instruction.TASK))
    polling = SafetyPolling(link.node, contract, inputs, EstopSignal(), lockstep=False)
    wait(lambda: chunks.get_subscription_count() > 0)
    chunks.publish(ActionChunk())
    assert chunks.wait_for_all_acked()
    assert tasks.wait_for_all_acked()
    polling.restart()
    heard = []

    def hears() -> bool:
        polling.poll()
        while (message := inputs.take_instruction()) is not None:
            heard.append(message.sequence)
        return bool(heard)

    wait(hears)
    assert heard == [3]
    assert inputs.take_chunk(np.inf) is None
    polling.close()
