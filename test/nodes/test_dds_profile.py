"""The shipped Fast DDS profiles: what they differ in, who reads which, and that the middleware takes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vla_ros.nodes.dds_domains import free_domain
from vla_ros.nodes.dds_profile import (
    DATAGRAMS_PROFILE,
    IMAGES_PROFILE,
    MESSAGES_PROFILE,
    PROFILE_VARIABLE,
    profile_for,
)
from vla_ros.nodes.graph import load_graph
from vla_ros.nodes.runner import graph_environment
from vla_ros.nodes.safety_polling import LARGEST_CHUNK
from vla_ros.paths import share_file

TIMEOUT = 60.0
OWN_SEGMENT = """
import re
import rclpy
from rclpy.node import Node
rclpy.init()
node = Node("alone")
sizes = [0]
for line in open("/proc/self/maps"):
    if re.search(r"/dev/shm/fastrtps_[0-9a-f]{16}$", line.rstrip()):
        begin, end = line.split()[0].split("-")
        sizes.append(int(end, 16) - int(begin, 16))
print(max(sizes))
"""


def lines(profile: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for element in ElementTree.parse(share_file(profile)).iter():
        found.setdefault(element.tag.rsplit("}", 1)[-1], []).append((element.text or "").strip())
    return found


def test_the_profiles_differ_in_the_segment_alone() -> None:
    images, messages = lines(IMAGES_PROFILE), lines(MESSAGES_PROFILE)
    assert {name for name in images | messages if images.get(name) != messages.get(name)} == {
        "segment_size", "maxMessageSize",
    }  # fmt: skip
    for profile in (images, messages):
        assert int(profile["maxMessageSize"][0]) <= int(profile["segment_size"][0])  # else the transport is refused
    assert int(messages["segment_size"][0]) >= 10 * LARGEST_CHUNK


def test_datagrams_are_the_messages_without_shared_memory() -> None:
    messages, datagrams = lines(MESSAGES_PROFILE), lines(DATAGRAMS_PROFILE)
    assert datagrams["type"] == ["UDPv4"]
    assert all(messages[name] == datagrams[name] for name in ("sec", "nanosec", "count", "receiveBufferSize"))


def test_the_safety_node_waits_for_no_other_process() -> None:
    assert [node.name for node in load_graph().nodes if not node.shared_memory] == ["safety_node"]
    assert profile_for(False, profile_for(True), shared_memory=False) == str(share_file(DATAGRAMS_PROFILE))
    assert profile_for(False, "/home/me/mine.xml", shared_memory=False) == "/home/me/mine.xml"


def test_a_profile_of_the_user_is_kept_and_a_shipped_one_is_not() -> None:
    assert profile_for(True) == profile_for(True, profile_for(False)) == str(share_file(IMAGES_PROFILE))
    assert profile_for(False) == profile_for(False, profile_for(True)) == str(share_file(MESSAGES_PROFILE))
    assert profile_for(False, "/home/me/mine.xml") == "/home/me/mine.xml"


def test_only_what_publishes_images_has_room_for_them() -> None:
    graph = load_graph()
    assert {node.name for node in graph.nodes if node.images} == {"sim_node", "perception_node"}
    for node in graph.nodes:
        environment = graph_environment(5, {}, images=node.images, shared_memory=node.shared_memory)
        assert environment[PROFILE_VARIABLE] == profile_for(node.images, shared_memory=node.shared_memory)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no shared memory here")
@pytest.mark.parametrize(
    ("images", "shared_memory", "least", "most"),
    [(True, True, 64 << 20, 80 << 20), (False, True, 2 << 20, 8 << 20), (False, False, 0, 1 << 20)],
)
def test_the_middleware_takes_it(images: bool, shared_memory: bool, least: int, most: int) -> None:
    environment = graph_environment(free_domain(), os.environ, images=images, shared_memory=shared_memory)
    done = subprocess.run(
        [sys.executable, "-c", OWN_SEGMENT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert least <= int(done.stdout.splitlines()[-1]) <= most, done.stderr
