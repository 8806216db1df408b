"""Every message crosses from one process to another and back over real DDS, filled up to its bounds, unchanged."""

import importlib
import os
import random
import re
import signal
import string
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from vla_ros.msg import ActionChunk
from vla_ros.ros.dds.domains import free_domain
from vla_ros.srv import ResetScene

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent.parent
MESSAGES = sorted(file.stem for file in (PACKAGE / "msg").glob("*.msg"))
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
DDS = {
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "FASTRTPS_DEFAULT_PROFILES_FILE": str(PACKAGE / "config" / "dds" / "shared_memory.xml"),
}
DEADLINE_S = 30.0
UNBOUNDED_LENGTH = 3
FLOATS = {"float": 32, "double": 64}


def filled(name, rng):
    """Return a message of type `package/Name` with every field set, and every bounded one filled to its bound."""
    package, _, kind = name.rpartition("/")
    message = getattr(importlib.import_module(f"{package}.msg"), kind)()
    for field, field_type in message.get_fields_and_field_types().items():
        setattr(message, field, value_of(field_type, rng))
    return message


def value_of(field_type, rng):
    """Return a value that is not the default, for a field type as rosidl writes it."""
    if sequence := re.fullmatch(r"sequence<(.+?)(?:, (\d+))?>", field_type):
        return [value_of(sequence[1], rng) for _ in range(int(sequence[2] or UNBOUNDED_LENGTH))]
    if array := re.fullmatch(r"(.+)\[(\d+)\]", field_type):
        return [value_of(array[1], rng) for _ in range(int(array[2]))]
    if text := re.fullmatch(r"string(?:<(\d+)>)?", field_type):
        return "".join(rng.choices(string.ascii_lowercase + " ", k=int(text[1] or UNBOUNDED_LENGTH)))
    if field_type == "boolean":
        return True
    if field_type in FLOATS:
        return rng.choice([-1.0, 1.0]) * 2.0 ** rng.randint(-20, 20)  # exact in 32 bits too
    if integer := re.fullmatch(r"(u?)int(\d+)", field_type):
        return 2 ** (int(integer[2]) - (not integer[1])) - 1 - rng.randint(0, 9)
    return filled(field_type, rng)


@pytest.fixture(scope="module")
def domain():
    """Return a DDS domain that nobody on this machine uses."""
    return free_domain()


@pytest.fixture(scope="module")
def echo(domain):
    """Run the other process."""
    environment = {**os.environ, **DDS, "ROS_DOMAIN_ID": str(domain)}
    command = [sys.executable, str(HERE / "echo_process.py"), ",".join(MESSAGES)]
    with subprocess.Popen(command, env=environment, cwd="/", stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()


@dataclass(frozen=True)
class Here:
    """A node of this process and what spins it."""

    node: Node
    executor: SingleThreadedExecutor


@pytest.fixture
def here(domain, monkeypatch):
    for variable, value in DDS.items():
        monkeypatch.setenv(variable, value)
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("test_messages", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield Here(node, executor)
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


def spin_until(here, process, done):
    """Spin until `done()`; fail at the deadline, or as soon as the other process has died."""
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        if process.poll() is not None:
            pytest.fail(f"the other process ended with {process.returncode}: {process.stderr.read()}")
        if time.monotonic() > deadline:
            pytest.fail(f"nothing came back within {DEADLINE_S} s")
        here.executor.spin_once(timeout_sec=0.1)


@pytest.mark.parametrize("name", MESSAGES)
def test_message_crosses_two_processes_unchanged(name, here, echo):
    sent = filled(f"vla_ros/{name}", random.Random(name))
    assert sent != type(sent)(), "a default message would show nothing"
    received = []
    here.node.create_subscription(type(sent), f"/test/back/{name}", received.append, LATCHED)
    here.node.create_publisher(type(sent), f"/test/out/{name}", LATCHED).publish(sent)
    spin_until(here, echo, lambda: received)
    assert received[0] == sent


def test_service_answers_another_process(here, echo):
    client = here.node.create_client(ResetScene, "/test/reset_scene")
    spin_until(here, echo, client.service_is_ready)
    answer = client.call_async(ResetScene.Request(seed=2**64 - 1, instruction="pick up the red cube"))
    spin_until(here, echo, answer.done)
    response = answer.result()
    assert response.success
    assert response.instruction == "pick up the red cube"
    assert list(response.objects) == [str(2**64 - 1)] * 16


def test_more_actions_than_the_bound_are_not_sent(here):
    publisher = here.node.create_publisher(ActionChunk, "/test/too_long", LATCHED)
    with pytest.raises(Exception, match="Failed to publish"):
        publisher.publish(ActionChunk(actions=[0.0] * 8193))
