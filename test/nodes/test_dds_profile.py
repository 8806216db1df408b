"""The shipped Fast DDS profiles: what they differ in, who reads which, and that the middleware takes them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vla_ros.bringup.runner import graph_environment
from vla_ros.nodes.safety.polling import LARGEST_CHUNK
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.dds.loopback import LOOPBACK_PROFILE, PROFILE_VARIABLE, RANGE_VARIABLE, is_known, udp_sockets
from vla_ros.ros.dds.profile import (
    DATAGRAMS_PROFILE,
    IMAGES_PROFILE,
    IN_FLIGHT,
    MESSAGES_PROFILE,
    PEERS_VARIABLE,
    PROFILES,
    SMALL_IMAGES_PROFILE,
    SMALL_SEGMENT,
    UNKNOWN,
    image_bytes,
    local_environment,
    profile_for,
)
from vla_ros.ros.graph.description import load_graph

TIMEOUT = 60.0
ECHO = """
import sys
import rclpy
from rclpy.node import Node
from std_msgs.msg import String
rclpy.init()
node = Node("echo")
print("up", flush=True)
name = sys.argv[-1]
node.create_subscription(String, "names", lambda message: print(message.data, flush=True), 10)
publisher = node.create_publisher(String, "names", 10)
node.create_timer(0.05, lambda: publisher.publish(String(data=name)))
rclpy.spin(node)
"""
BEFORE = """
import os, sys
import rclpy
from rclpy.node import Node
from vla_ros.bringup.runner import RosLink
rclpy.init()
Node("mine").destroy_node()
rclpy.shutdown()
for name in ("first", "second"):
    link = RosLink(name, int(sys.argv[1]))
    print(os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"], flush=True)
    link.close()
"""
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
    without = (DATAGRAMS_PROFILE, LOOPBACK_PROFILE)
    images, *others = (lines(one) for one in PROFILES if one not in without)
    for other in others:
        assert {name for name in images | other if images.get(name) != other.get(name)} == {
            "segment_size",
            "maxMessageSize",
        }
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


def test_the_loopback_interface_is_all_that_loopback_adds_to_the_datagrams() -> None:
    datagrams, loopback = lines(DATAGRAMS_PROFILE), lines(LOOPBACK_PROFILE)
    added = {name for name in loopback if loopback[name] != datagrams.get(name)}
    assert added == {
        "library_settings",
        "intraprocess_delivery",
        "interfaceWhiteList",
        "maxInitialPeersRange",
        "address",
        "locator",
        "udpv4",
        "metatrafficUnicastLocatorList",
        "initialPeersList",
    }
    assert not set(datagrams) - set(loopback)
    assert set(loopback["address"]) == {"127.0.0.1"}


def test_who_handles_no_images_waits_for_no_other_process() -> None:
    assert {node.name for node in load_graph().nodes if node.shared_memory} == {
        "sim_node",
        "perception_node",
        "policy_node",
    }
    assert profile_for(0.0, profile_for(UNKNOWN), shared_memory=False) == str(share_file(DATAGRAMS_PROFILE))
    assert profile_for(0.0, "/home/me/mine.xml", shared_memory=False) == "/home/me/mine.xml"


@pytest.mark.parametrize(
    ("images", "profile"),
    [
        (0.0, MESSAGES_PROFILE),
        (1.0, SMALL_IMAGES_PROFILE),
        (SMALL_SEGMENT / IN_FLIGHT, SMALL_IMAGES_PROFILE),
        (SMALL_SEGMENT / IN_FLIGHT + 1.0, IMAGES_PROFILE),
        (UNKNOWN, IMAGES_PROFILE),
    ],
)
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
        assert environment[RANGE_VARIABLE] == ("LOCALHOST" if node.shared_memory else "SYSTEM_DEFAULT")
        assert (images > 0.0) is node.images
        assert not node.images or images >= 3 * sum(one.width * one.height for one in load_contract("panda").cameras)
    assert {profiles.pop(name) for name in ("sim_node", "perception_node")} == {str(share_file(SMALL_IMAGES_PROFILE))}
    assert profiles.pop("policy_node") == str(share_file(MESSAGES_PROFILE))
    assert set(profiles.values()) == {str(share_file(LOOPBACK_PROFILE))}
    large = tmp_path / "large.yaml"
    large.write_text(load_contract("panda").text.replace("width: 320", "width: 1920"), encoding="utf-8")
    for robot, least in ((str(large), SMALL_SEGMENT / IN_FLIGHT), ("no such robot", UNKNOWN)):
        assert image_bytes(graph.resolve({"robot": robot})) >= least
    assert image_bytes([replace(graph.nodes[0], parameters={})]) == UNKNOWN


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no shared memory here")
@pytest.mark.parametrize(
    ("images", "shared_memory", "least", "most"),
    [
        (UNKNOWN, True, 64 << 20, 80 << 20),
        (1.0, True, 16 << 20, 24 << 20),
        (0.0, True, 2 << 20, 8 << 20),
        (0.0, False, 0, 0),
    ],
)
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


def test_with_peers_elsewhere_or_a_profile_of_the_users_own_discovery_is_limited_by_the_middleware() -> None:
    own = local_environment(0.0, {PROFILE_VARIABLE: "/home/me/mine.xml"}, shared_memory=False)
    assert own == {PROFILE_VARIABLE: "/home/me/mine.xml", RANGE_VARIABLE: "LOCALHOST"}
    peers = local_environment(0.0, {PEERS_VARIABLE: "192.168.1.7"}, shared_memory=False)
    assert peers == {PROFILE_VARIABLE: str(share_file(DATAGRAMS_PROFILE)), RANGE_VARIABLE: "LOCALHOST"}


@pytest.mark.skipif(not is_known(), reason="this system does not say who listens where")
def test_a_process_without_shared_memory_listens_on_the_loopback_interface_alone() -> None:
    environment = graph_environment(free_domain(), os.environ, images=0.0, shared_memory=False)
    with subprocess.Popen(
        [sys.executable, "-c", ECHO], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            assert {address for _, address in udp_sockets(str(process.pid))} == {"0100007F"}
        finally:
            process.kill()


MINE = """<dds xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"><profiles>
<participant profile_name="mine" is_default_profile="true"><rtps/></participant></profiles></dds>"""


@pytest.mark.skipif(not is_known(), reason="this system does not say who listens where")
@pytest.mark.parametrize("other", [{}, {"ROS_LOCALHOST_ONLY": "1"}])
def test_what_lies_in_the_working_directory_does_not_open_the_network(tmp_path: Path, other: dict[str, str]) -> None:
    (tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml").write_text(MINE, encoding="utf-8")
    environment = graph_environment(free_domain(), os.environ | other, images=0.0, shared_memory=False)
    with subprocess.Popen(
        [sys.executable, "-c", ECHO],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            assert {address for _, address in udp_sockets(str(process.pid))} == {"0100007F"}
        finally:
            process.kill()


@pytest.mark.skipif(not is_known(), reason="this system does not say who listens where")
def test_a_node_whose_profile_is_not_read_ends_with_a_sentence(tmp_path: Path) -> None:
    profile = tmp_path / "config/dds/loopback.xml"
    profile.parent.mkdir(parents=True)
    profile.write_text("<dds>", encoding="utf-8")
    environment = graph_environment(free_domain(), os.environ, images=0.0, shared_memory=False)
    environment[PROFILE_VARIABLE] = str(profile)  # from the working directory, as in a checkout
    done = subprocess.run(
        [sys.executable, "-m", "vla_ros.nodes.instruction_node"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 1
    assert "this process is to keep to this machine, and the middleware listens on" in done.stderr


@pytest.mark.skipif(not is_known(), reason="this system does not say who listens where")
def test_a_process_that_has_used_the_middleware_before_does_not_open_multicast() -> None:
    environment = {**os.environ, PROFILE_VARIABLE: "", RANGE_VARIABLE: "LOCALHOST", "ROS_DOMAIN_ID": str(free_domain())}
    done = subprocess.run(
        [sys.executable, "-c", BEFORE, str(free_domain())],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert done.stdout.splitlines()[-2:] == ["LOCALHOST", "LOCALHOST"], done.stderr


def test_another_middleware_is_limited_by_its_own_means() -> None:
    other = local_environment(0.0, {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, shared_memory=False)
    assert other[RANGE_VARIABLE] == "LOCALHOST"


@pytest.mark.parametrize("images", [0.0, 1.0])
def test_a_process_with_shared_memory_hears_one_without_and_is_heard(images: float) -> None:
    domain = free_domain()
    environments = [
        graph_environment(domain, os.environ, images=0.0, shared_memory=False),
        graph_environment(domain, os.environ, images=images),
        {**os.environ, "ROS_DOMAIN_ID": str(domain), RANGE_VARIABLE: "LOCALHOST", PROFILE_VARIABLE: ""},
    ]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", ECHO, name],
                    env=one,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for name, one in zip("abc", environments, strict=True)
        ]
        for process in processes:
            stack.callback(process.kill)
        for process in processes:
            assert process.stdout is not None
            heard = set()
            timer = threading.Timer(TIMEOUT, process.kill)
            timer.start()
            while heard != set("abc"):
                line = process.stdout.readline()
                assert line, f"heard {heard} alone"
                heard |= set(line.strip()) & set("abc")
            timer.cancel()
