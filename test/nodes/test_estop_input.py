"""What a button says while no control thread runs: nothing of it is lost, whatever the node goes through."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from rclpy.parameter import Parameter
from std_msgs.msg import Bool

from vla_ros.bringup.runner import RosLink
from vla_ros.nodes.safety.estop_input import ESTOP_TOPIC, EstopInput
from vla_ros.nodes.safety_node import SafetyNode
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.qos import qos
from vla_ros.safety.watch.estop import EstopSignal
from vla_ros.types import SafetyState

DEADLINE = 20.0
SUBSCRIPTIONS = 2  # a reliable and a best-effort one


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Site:
    """A safety node that no executor spins, as while a transition takes long, and a button; each in a context."""

    def __init__(self) -> None:
        domain = free_domain()
        self.own, self.link = RosLink("own", domain), RosLink("button", domain)
        self.node = SafetyNode(
            context=self.own.node.context,
            use_global_arguments=False,
            parameter_overrides=[Parameter("realtime_priority", value=0)],
        )
        self.button = self.link.node.create_publisher(Bool, ESTOP_TOPIC, qos("estop"))
        wait(lambda: self.button.get_subscription_count() == SUBSCRIPTIONS)

    def send(self, *pressed: bool) -> None:
        for one in pressed:
            self.button.publish(Bool(data=one))
        assert self.button.wait_for_all_acked()

    def is_latched(self) -> bool:
        control = self.node._made_control
        return control is not None and control.state is SafetyState.ESTOP

    def close(self) -> None:
        self.node.finish()
        self.node.destroy_node()
        self.own.close()
        self.link.close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.mark.parametrize("said", [(True,), (True, False)], ids=["held", "released"])
@pytest.mark.parametrize("when", ["before it is configured", "inactive", "after it was deactivated", "unconfigured"])
def test_a_press_that_comes_while_the_node_is_not_active_latches(site: Site, when: str, said: tuple[bool, ...]) -> None:
    node = site.node
    if when == "before it is configured":
        site.send(*said)
    else:
        node.trigger_configure()
    if when == "inactive":
        site.send(*said)
        node.trigger_cleanup()  # before any timer can have looked
    elif when == "after it was deactivated":
        node.trigger_activate()
        node.trigger_deactivate()
        assert not site.is_latched()
        site.send(*said)
        node.trigger_cleanup()
    elif when == "unconfigured":
        node.trigger_cleanup()
        site.send(*said)
    node.trigger_configure()
    node.trigger_activate()
    wait(site.is_latched)


def test_nothing_said_latches_nothing(site: Site) -> None:
    for _ in range(2):
        site.node.trigger_configure()
        site.send(False)
        site.node.trigger_activate()
        ticks = site.node._control.counters.ticks
        wait(lambda ticks=ticks: site.node._control.counters.ticks > ticks + 5)
        assert not site.is_latched()
        site.node.trigger_deactivate()
        site.node.trigger_cleanup()


class Noting(EstopSignal):
    """Counts the messages."""

    def __init__(self) -> None:
        super().__init__()
        self.received = 0

    def receive(self, pressed: bool, now: float, gid: bytes = b"") -> None:
        super().receive(pressed, now, gid)
        self.received += 1


def test_a_button_that_speaks_steadily_fills_no_queue_while_nothing_spins() -> None:
    link, signal = RosLink("steady", free_domain()), Noting()
    buttons = EstopInput(link.node, signal)
    buttons.listen()
    publisher = link.node.create_publisher(Bool, ESTOP_TOPIC, qos("estop"))
    wait(lambda: publisher.get_subscription_count() == SUBSCRIPTIONS)
    half = qos("estop").depth // 2
    for count in range(1, 5):  # twice what the queue keeps
        for _ in range(half):
            publisher.publish(Bool(data=False))
        wait(lambda count=count: signal.received == count * half)
    assert not signal.take(time.monotonic())
    buttons.rest()
    publisher.publish(Bool(data=True))
    assert publisher.wait_for_all_acked()
    buttons.hear()  # as the control thread does from now on
    assert signal.take(time.monotonic())
    buttons.close()
    link.close()


def test_a_button_that_is_there_and_never_speaks_is_named() -> None:
    link, signal = RosLink("silent", free_domain()), EstopSignal(timeout=0.05)
    buttons = EstopInput(link.node, signal)
    link.node.create_publisher(Bool, ESTOP_TOPIC, qos("estop"))

    def complained() -> bool:
        buttons.find_publishers()
        return bool(signal.why(time.monotonic()))

    wait(complained)
    assert signal.why(time.monotonic()) == "the button of /silent has been silent for more than 0.05 s"
    buttons.close()
    link.close()
