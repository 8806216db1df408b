"""The shipped Fast DDS profiles: what they differ in, who reads which, and that the middleware takes them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vla_ros.nodes.dds_domains import free_domain
from vla_ros.nodes.dds_profile import (
    DATAGRAMS_PROFILE,
    IMAGES_PROFILE,
    IN_FLIGHT,
    MESSAGES_PROFILE,
    PROFILE_VARIABLE,
    PROFILES,
    SMALL_IMAGES_PROFILE,
    SMALL_SEGMENT,
    UNKNOWN,
    image_bytes,
    profile_for,
)
from vla_ros.nodes.graph import load_graph
from vla_ros.nodes.runner import graph_environment
from vla_ros.nodes.safety_polling import LARGEST_CHUNK
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract

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
    images, *others = (lines(one) for one in PROFILES if one != DATAGRAMS_PROFILE)
    for other in others:
        assert {name for name in images | other if images.get(name) != other.get(name)} == {
            "segment_size", "maxMessageSize",
        }  # fmt: skip
    for profile in (images, *others):
        assert int(profile["maxMessageSize"][0]) <= int(profile["segment_size"][0])  # else the transport is refused
    small, messages = others
    assert int(messages["segment_size"][0]) >= 10 * LARGEST_CHUNK
    assert int(small["segment_size"][0]) == SMALL_SEGMENT
    assert int(small["maxMessageSize"][0]) >= SMALL_SEGMENT / IN_FLIGHT  # no image is cut into fragments


def test_datagrams_are_the_messages_without_shared_memory() -> None:
    messages, datagrams = lines(MESSAGES_PROFILE), lines(DATAGRAMS_PROFILE)
    assert datagrams["type"] == ["UDPv4"]
    assert all(messages[name] == datagrams[name] for name in ("sec", "nanosec", "count", "receiveBufferSize"))


def test_the_safety_node_waits_for_no_other_process() -> None:
    assert [node.name for node in load_graph().nodes if not node.shared_memory] == ["safety_node"]
    assert profile_for(0.0, profile_for(UNKNOWN), shared_memory=False) == str(share_file(DATAGRAMS_PROFILE))
    assert profile_for(0.0, "/home/me/mine.xml", shared_memory=False) == "/home/me/mine.xml"


@pytest.mark.parametrize(
    ("images", "profile"),
    [(0.0, MESSAGES_PROFILE), (1.0, SMALL_IMAGES_PROFILE), (SMALL_SEGMENT / IN_FLIGHT, SMALL_IMAGES_PROFILE),
     (SMALL_SEGMENT / IN_FLIGHT + 1.0, IMAGES_PROFILE), (UNKNOWN, IMAGES_PROFILE)],
)  # fmt: skip
def test_a_profile_has_room_for_ten_images(images: float, profile: str) -> None:
    for given in ("", *(str(share_file(one)) for one in PROFILES)):
        assert profile_for(images, given) == str(share_file(profile))
    assert profile_for(images, "/home/me/mine.xml") == "/home/me/mine.xml"


def test_a_node_has_room_for_the_images_of_its_robot(tmp_path: Path) -> None:
    graph = load_graph()
    assert {node.name for node in graph.nodes if node.images} == {"sim_node", "perception_node"}
    profiles = {}
    for node in graph.resolve({"processes": "shared"}):
        images = image_bytes([node])
        environment = graph_environment(5, {}, images=images, shared_memory=node.shared_memory)
        profiles[node.name] = environment[PROFILE_VARIABLE]
        assert (images > 0.0) is node.images
        assert not node.images or images >= 3 * sum(one.width * one.height for one in load_contract("panda").cameras)
    assert {profiles.pop(name) for name in ("sim_node", "perception_node")} == {str(share_file(SMALL_IMAGES_PROFILE))}
    assert profiles.pop("safety_node") == str(share_file(DATAGRAMS_PROFILE))
    assert set(profiles.values()) == {str(share_file(MESSAGES_PROFILE))}
    large = tmp_path / "large.yaml"
    large.write_text(load_contract("panda").text.replace("width: 320", "width: 1920"), encoding="utf-8")
    for robot, least in ((str(large), SMALL_SEGMENT / IN_FLIGHT), ("no such robot", UNKNOWN)):
        assert image_bytes(graph.resolve({"robot": robot})) >= least
    assert image_bytes([replace(graph.nodes[0], parameters={})]) == UNKNOWN


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no shared memory here")
@pytest.mark.parametrize(
    ("images", "shared_memory", "least", "most"),
    [(UNKNOWN, True, 64 << 20, 80 << 20), (1.0, True, 16 << 20, 24 << 20), (0.0, True, 2 << 20, 8 << 20),
     (0.0, False, 0, 1 << 20)],
)  # fmt: skip
def test_the_middleware_takes_it(images: float, shared_memory: bool, least: int, most: int) -> None:
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
