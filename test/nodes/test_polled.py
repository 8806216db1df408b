"""What a polled subscription says of messages that it could not keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool, String

from vla_ros.bringup.runner import RosLink
from vla_ros.msg import ActionChunk, Instruction, InstructionStatus
from vla_ros.nodes.safety.estop_input import ESTOP_TOPIC, EstopInput
from vla_ros.nodes.safety.inputs import Inputs
from vla_ros.nodes.safety.orders import INSTRUCTION_STATUS_TOPIC, PolledOrders
from vla_ros.nodes.safety.polling import CHUNK_TOPIC, TASK_TOPIC, SafetyPolling
from vla_ros.robot.contract import load_contract
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.polled import PolledSubscription, Received
from vla_ros.ros.qos import qos
from vla_ros.safety.watch.estop import EstopSignal

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


def best_effort(depth: int) -> QoSProfile:
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)


def latching(depth: int) -> QoSProfile:
    return QoSProfile(depth=depth, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def test_what_one_subscription_has_lost_is_taken_from_the_other_one_once(link: RosLink) -> None:
    """A queue of three stands for the network that loses messages which are sent again to the reliable reader."""
    polled = PolledSubscription(link.node, Bool, "button", [best_effort(3), QoSProfile(depth=100)])
    publisher = link.node.create_publisher(Bool, "button", QoSProfile(depth=100))
    wait(lambda: publisher.get_subscription_count() > 1)
    heard = []
    for burst in (2, 10):  # the numbers before the first one that is heard are waited for, too
        for number in range(burst):
            publisher.publish(Bool(data=number == 1))
        assert publisher.wait_for_all_acked()
        end = len(heard) + burst
        wait(lambda end=end: heard.extend(polled.take()) or len(heard) >= end)
    assert sorted(one.sequence for one in heard) == list(range(1, 13))
    assert [one.sequence for one in heard if one.message.data] == [2, 4]
    assert [one.sequence for one in heard if one.late] == list(range(3, 10))
    polled.close()


def test_a_press_that_comes_after_the_release_behind_it_is_a_press_for_a_moment(link: RosLink) -> None:
    """The press comes through the reliable subscription alone, as one that the network had lost."""
    estop = EstopSignal()
    buttons = EstopInput(link.node, estop)
    publisher = link.node.create_publisher(Bool, "button", latching(10))
    publisher.publish(Bool(data=True))
    publisher.publish(Bool(data=True))
    buttons._subscription.close()
    buttons._subscription = PolledSubscription(link.node, Bool, "button", [best_effort(10), latching(10)])
    wait(lambda: publisher.get_subscription_count() > 1)
    publisher.publish(Bool(data=False))
    assert publisher.wait_for_all_acked()
    wait(lambda: buttons.hear() or estop.take(time.monotonic()))
    assert not estop.take(time.monotonic())
    assert estop.why(time.monotonic()) == ""
    buttons.close()


def test_a_stop_among_what_waited_for_the_activation_outlives_a_task_that_was_published_directly(
    link: RosLink,
) -> None:
    """Nobody is there who numbers sentences and tasks, so nothing says that the task is the newer one."""
    contract = load_contract("panda")
    inputs = Inputs(contract)
    tasks = link.node.create_publisher(Instruction, TASK_TOPIC, qos("task"))
    sentences = link.node.create_publisher(String, "vla/instruction", qos("instruction"))
    polling = SafetyPolling(link.node, contract, inputs, EstopInput(link.node, EstopSignal()), lockstep=False)
    wait(lambda: min(tasks.get_subscription_count(), sentences.get_subscription_count()) > 0)

    def heard() -> tuple[str, list[int]]:
        """Take what has come, as the control thread does."""
        polling.poll()
        polling.orders.beats()
        stop, messages = polling.orders.stop_phrase(), []
        while (message := inputs.take_instruction()) is not None:
            messages.append(message)
        return stop, [message.sequence for message in polling.orders.admit(messages)]

    tasks.publish(Instruction(text="pick up the red cube", sequence=3, kind=Instruction.TASK))
    assert tasks.wait_for_all_acked()
    sentences.publish(String(data="stop"))
    assert sentences.wait_for_all_acked()
    polling.restart()
    assert heard() == ("stop", [])
    tasks.publish(Instruction(text="pick up the red cube", sequence=4, kind=Instruction.TASK))
    assert tasks.wait_for_all_acked()
    assert heard() == ("", [4])
    polling.close()


def test_an_emergency_stop_whose_queue_ran_over_counts_as_pressed(link: RosLink) -> None:
    contract = load_contract("panda")
    estop = EstopSignal()
    buttons = EstopInput(link.node, estop)
    polling = SafetyPolling(link.node, contract, Inputs(contract), buttons, lockstep=False)
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
    buttons.close()


def test_a_task_from_before_the_activation_is_kept_and_a_chunk_is_not(link: RosLink) -> None:
    contract = load_contract("panda")
    inputs = Inputs(contract)
    tasks = link.node.create_publisher(Instruction, TASK_TOPIC, qos("task"))
    chunks = link.node.create_publisher(ActionChunk, CHUNK_TOPIC, qos("action_chunk"))
    tasks.publish(Instruction(text="pick up the red cube", sequence=3, kind=Instruction.TASK))
    polling = SafetyPolling(link.node, contract, inputs, EstopInput(link.node, EstopSignal()), lockstep=False)
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


class Resent:
    """Two sentences, of which the first is lost and comes again after the second; an instruction node beats.

    The first one is published before anybody subscribes, and only the reliable subscription asks for it: it is read
    after the other one, through which the second sentence has come by then.
    """

    def __init__(self, link: RosLink, first: str, second: str) -> None:
        sentences = link.node.create_publisher(String, "sentence", latching(10))
        sentences.publish(String(data=first))
        self.orders = PolledOrders(link.node)
        self.orders._sentences[String].close()
        profiles = [best_effort(10), latching(10)]
        self.polled = PolledSubscription(link.node, String, "sentence", profiles, serialized=True)
        self.orders._sentences[String] = self.polled
        beats = link.node.create_publisher(InstructionStatus, INSTRUCTION_STATUS_TOPIC, qos("status"))
        wait(lambda: beats.get_subscription_count() > 0 and sentences.get_subscription_count() > 1)
        wait(lambda: beats.publish(InstructionStatus(beat=1)) or bool(self.orders.beats()))
        sentences.publish(String(data=second))
        assert sentences.wait_for_all_acked()
        self.late: list[bool] = []
        self._take = self.polled.take
        self.polled.take = self._noting  # type: ignore[method-assign]

    def _noting(self) -> list[Received]:
        taken = self._take()
        self.late += [one.late for one in taken]
        return taken

    def heard(self) -> list[str]:
        """Return the stops, once both sentences have come, the first one late."""
        stops: list[str] = []

        def both() -> bool:
            stops.append(self.orders.stop_phrase())
            return len(self.late) == 2

        wait(both)
        assert self.late == [False, True]
        return [stop for stop in stops if stop]


TASK = Instruction(text="pick up the red cube", sequence=3, kind=Instruction.TASK)


def test_a_sentence_from_before_a_stop_that_is_sent_again_after_it_starts_no_task(link: RosLink) -> None:
    resent = Resent(link, TASK.text, "stop")
    assert resent.heard() == ["stop"]
    assert resent.orders.admit([TASK]) == []
    resent.orders.close()


def test_a_stop_that_is_sent_again_after_a_newer_sentence_stops(link: RosLink) -> None:
    resent = Resent(link, "stop", TASK.text)
    assert resent.heard() == ["stop"]
    assert resent.orders.admit([TASK]) == []
    resent.orders.close()
