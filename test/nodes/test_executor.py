"""The executor of the nodes, over real rclpy: it waits once a message, and delivers as rclpy's own does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.task import Future
from std_msgs.msg import UInt32
from std_srvs.srv import Trigger

from vla_ros.bringup.runner import RosLink
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.executor import LeanExecutor, make_executor
from vla_ros.ros.lifecycle import ManagedNode

DEADLINE = 30.0
DEEP = QoSProfile(depth=500)  # reliable: what is lost here is lost by the executor
PERIOD = 0.01


class Counting(ManagedNode):
    """Counts the waits of an executor, each of which asks twice for the subscriptions."""

    asked = 0

    @property
    def subscriptions(self) -> Any:
        self.asked += 1
        return super().subscriptions


class World:
    """A node that an executor spins as `run_node` does, and somebody who talks to it."""

    def __init__(self, kind: type[Executor]) -> None:
        domain = free_domain()
        self.link, self.home = RosLink("somebody", domain), RosLink("home", domain)
        context = self.home.node.context
        self.node = Counting("counting", context=context, use_global_arguments=False)
        self.heard: list[int] = []
        self.raised: list[Exception] = []
        self.change = threading.Condition()
        self.node.create_subscription(UInt32, "number", self.hear, DEEP)
        self.executor = kind(context=context)
        self.executor.add_node(self.node)
        self.numbers = self.link.node.create_publisher(UInt32, "number", DEEP)
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.spin)
        self.thread.start()
        self.until(lambda: self.numbers.get_subscription_count() == 1)

    def hear(self, message: UInt32) -> None:
        with self.change:
            self.heard.append(message.data)
            self.change.notify_all()
        if message.data % 10 == 7:
            raise ValueError(message.data)

    def spin(self) -> None:
        while not self.closing.is_set():
            try:
                self.executor.spin_once(timeout_sec=0.1)
            except ValueError as error:
                self.raised.append(error)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end
            time.sleep(PERIOD)

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.change:
            assert self.change.wait_for(condition, DEADLINE)

    def ask(self, name: str) -> Future:
        client = self.link.node.create_client(Trigger, name)
        assert client.wait_for_service(DEADLINE)
        return client.call_async(Trigger.Request())

    def answer(self, future: Future) -> str:
        self.until(future.done)
        return str(future.result().message)

    def close(self) -> None:
        self.closing.set()
        self.thread.join(DEADLINE)
        self.executor.shutdown()
        self.node.destroy_node()
        self.home.close()
        self.link.close()


@pytest.fixture(params=[LeanExecutor, SingleThreadedExecutor], ids=lambda kind: kind.__name__)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(request.param)
    yield world
    world.close()


def test_everything_arrives_in_order_and_a_callback_that_raises_ends_nothing(world: World) -> None:
    sent = list(range(300))
    for number in sent[:100]:  # a hundred a second
        world.numbers.publish(UInt32(data=number))
        time.sleep(PERIOD)
    for number in sent[100:]:  # at once
        world.numbers.publish(UInt32(data=number))
    world.wait(lambda: len(world.heard) >= len(sent))
    world.until(lambda: len(world.raised) == len(sent) // 10)
    assert world.heard == sent


def test_a_coroutine_waits_while_other_services_are_answered(world: World) -> None:
    begun, ready = threading.Event(), Future()

    async def slow(request: Any, response: Any) -> Any:
        begun.set()
        response.message = await ready
        return response

    def fast(request: Any, response: Any) -> Any:
        response.message = "fast"
        return response

    # Timers of the nodes wake the executor ten times a second, so that what another thread has finished is looked at.
    world.node.create_timer(0.1, lambda: None)
    world.node.create_service(Trigger, "slow", slow, callback_group=ReentrantCallbackGroup())
    world.node.create_service(Trigger, "fast", fast)
    waiting = world.ask("slow")
    assert begun.wait(DEADLINE)
    assert world.answer(world.ask("fast")) == "fast"
    assert not waiting.done()
    threading.Thread(target=ready.set_result, args=("slow",)).start()
    assert world.answer(waiting) == "slow"


def test_calls_of_one_group_that_come_while_its_coroutine_waits_are_answered_after_it(world: World) -> None:
    begun, ready, calls = threading.Event(), Future(), []

    async def slow(request: Any, response: Any) -> Any:
        calls.append(len(calls))
        begun.set()
        response.message = f"{await ready} {calls[-1]}"
        return response

    world.node.create_timer(0.1, lambda: None, callback_group=ReentrantCallbackGroup())
    world.node.create_service(Trigger, "slow", slow)
    first = world.ask("slow")
    assert begun.wait(DEADLINE)
    second = world.ask("slow")
    threading.Thread(target=ready.set_result, args=("done",)).start()
    assert (world.answer(first), world.answer(second)) == ("done 0", "done 1")


def test_it_waits_once_a_message() -> None:
    world = World(LeanExecutor)
    try:
        before, began = world.node.asked, time.monotonic()
        for number in range(0, 1000, 10):
            world.numbers.publish(UInt32(data=number))
            time.sleep(PERIOD)
        world.wait(lambda: len(world.heard) == 100)
        idle = 12 * (time.monotonic() - began) + 5  # time-outs of `spin_once` and reports of the node
        assert (world.node.asked - before) / 2 <= 100 + idle  # rclpy's own: 200
    finally:
        world.close()


def test_where_rclpy_works_in_another_way_its_own_executor_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rclpy.init(domain_id=free_domain())
    try:
        assert type(make_executor()) is LeanExecutor

        def other(self: Executor, entity: Any, node: Any, take: Any) -> None:
            """A handler of another version."""

        monkeypatch.setattr(Executor, "_make_handler", other)
        assert type(make_executor()) is SingleThreadedExecutor
    finally:
        rclpy.shutdown()
