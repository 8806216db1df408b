"""The time of a simulation, over real rclpy: it is followed, and nobody is woken for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock

from vla_ros.bringup.runner import RosLink
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.lifecycle import ManagedNode
from vla_ros.ros.messages.conversions import NANOSECONDS, seconds_to_stamp
from vla_ros.ros.qos import qos

DEADLINE = 30.0
TICKS, PERIOD = 200, 0.01


class Counting(ManagedNode):
    """Counts how often an executor asks what it shall wait for: once each time that it has been woken."""

    rounds = 0

    @property
    def subscriptions(self) -> Any:
        self.rounds += 1
        return super().subscriptions

    def time(self) -> float:
        return self.get_clock().now().nanoseconds / NANOSECONDS


class World:
    def __init__(self, *, follows: bool) -> None:
        domain = free_domain()
        self.link, self.own = RosLink("simulation", domain), RosLink("own", domain)
        self.clock = self.link.node.create_publisher(Clock, "/clock", qos("clock"))
        overrides = [Parameter("use_sim_time", value=follows)]
        options = {"context": self.own.node.context, "use_global_arguments": False, "parameter_overrides": overrides}
        self.node = Counting("follower", **options)
        self.own._executor.add_node(self.node)

    def tick(self, seconds: float) -> None:
        self.clock.publish(Clock(clock=seconds_to_stamp(seconds)))

    def until(self, condition: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            meanwhile()
            assert time.monotonic() < end
            time.sleep(PERIOD)


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(follows=request.param)
    yield world
    world.own.close()
    world.link.close()


@pytest.mark.parametrize("world", [True], indirect=True)
def test_time_is_followed_and_the_executor_sleeps(world: World) -> None:
    world.until(lambda: world.node.time() == 1.0, lambda: world.tick(1.0))
    before = world.node.rounds
    for tick in range(1, TICKS + 1):
        world.tick(1.0 + PERIOD * tick)
        time.sleep(PERIOD)
    assert world.node.rounds - before < TICKS / 4  # the report, once a second, wakes it all the same
    last = 1.0 + PERIOD * TICKS
    world.until(lambda: world.node.time() == last, lambda: world.tick(last))


@pytest.mark.parametrize("world", [True], indirect=True)
def test_a_thread_that_is_slow_to_set_an_older_time_does_not_undo_a_newer_one(world: World) -> None:
    world.until(lambda: world.node.time() == 1.0, lambda: world.tick(1.0))
    source = world.node._clock_on_demand._source
    setting, slow, set_time = threading.Event(), threading.Event(), source.clock_callback

    def set_slowly(message: Clock) -> None:
        if message.clock.sec == 2:
            setting.set()
            assert slow.wait(DEADLINE)
        set_time(message)

    source.clock_callback = set_slowly
    older = threading.Thread(target=world.until, args=(lambda: world.node.time() >= 2.0, lambda: None))
    older.start()
    world.until(setting.is_set, lambda: world.tick(2.0))
    newer = threading.Thread(target=world.until, args=(lambda: world.node.time() == 3.0, lambda: world.tick(3.0)))
    newer.start()
    newer.join(timeout=1.0)  # it has to wait for the other one; it comes to its end here only where it does not
    slow.set()
    older.join(DEADLINE)
    newer.join(DEADLINE)
    assert world.node.time() == 3.0


@pytest.mark.parametrize("world", [False], indirect=True)
def test_without_a_simulation_it_is_the_clock_of_the_machine(world: World) -> None:
    world.until(lambda: world.clock.get_subscription_count() == 0, lambda: world.tick(1.0))
    assert abs(world.node.time() - time.time()) < DEADLINE
