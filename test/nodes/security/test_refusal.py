"""The SROS2 policy in force: who reaches whom through DDS Security, and who does not, between real processes.

The Fast DDS of the wheels has no security, so no node of the graph is in this: `peer.cpp` is one end of one topic, with
the files of an enclave that SROS2 has signed from the shipped policy. VLA_ROS_FASTDDS names the folder of a Fast DDS 2
that is neither in AMENT_PREFIX_PATH nor in /usr.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vla_ros.bringup.security_policy import rights_of_the_graph
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract
from vla_ros.ros.dds.domains import free_domain

try:
    from sros2.api._artifact_generation import generate_artifacts  # what `ros2 security generate_artifacts` calls

    SROS2 = True
except (ImportError, LookupError):  # the latter from a copy that is not in AMENT_PREFIX_PATH
    SROS2 = False

HERE = Path(__file__).resolve().parent
COMPILER = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
MULTIARCH = sysconfig.get_config_var("MULTIARCH") or ""


def secure_fast_dds() -> Path | None:
    """Return the folder of a Fast DDS that is built with security."""
    given = [os.environ.get("VLA_ROS_FASTDDS", ""), *os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), "/usr"]
    for prefix in map(Path, filter(None, given)):
        for settings in (prefix / "include" / MULTIARCH / "fastrtps/config.h", prefix / "include/fastrtps/config.h"):
            if settings.is_file() and "#define HAVE_SECURITY 1" in settings.read_text(encoding="utf-8"):
                return prefix
    return None


FAST_DDS = secure_fast_dds()
LACKS = [
    what
    for there, what in (
        (COMPILER, "a C++ compiler (g++)"),
        (shutil.which("openssl"), "openssl"),
        (FAST_DDS, "a Fast DDS 2 with security, and its headers (Debian and Ubuntu: libfastrtps-dev)"),
        (SROS2, "the Python package sros2 (that of a full ROS 2, or its repository with lxml and cryptography 41)"),
    )
    if not there
]
pytestmark = pytest.mark.skipif(bool(LACKS), reason=f"not on this machine: {'; '.join(LACKS)}")

PANDA = load_contract("panda")
ARM, GRIPPER = PANDA.controllers.arm_topic, PANDA.controllers.gripper_topic
TYPES = {
    ARM: "trajectory_msgs/JointTrajectory",
    GRIPPER: "trajectory_msgs/JointTrajectory",
    "/vla/estop": "std_msgs/Bool",
    "/vla/instruction": "vla_ros/Instruction",
    "/vla/task": "vla_ros/Instruction",
    "/vla/action_chunk": "vla_ros/ActionChunk",
    "/vla/policy_status": "vla_ros/PolicyStatus",
}
OTHERS = sorted(set(rights_of_the_graph(PANDA)) - {"safety_node"})
NOT_GRANTED = f"rt{ARM} topic not found in allow rule"
INTRUDERS = {
    "no_certificate": "",
    "foreign_certificate": "",
    "own_permissions": "Error validating remote permissions",
    **dict.fromkeys(OTHERS, NOT_GRANTED),
}
"""And what the robot says of it: of a participant that it cannot authenticate it says nothing."""

LIMIT = 60.0
"""A peer that has not done what it is for ends after this, s."""
LEAST = 1.0
"""An intruder goes on for this after the safety node was heard, or for as long again as that has taken, s."""


@pytest.fixture(scope="session", autouse=True)
def tested_layer() -> None:
    """No node arms here: in place of the pass that the other tests of nodes need."""


def library_folders() -> list[str]:
    return [str(FAST_DDS / "lib" / MULTIARCH), str(FAST_DDS / "lib")]


def compiled(source: str, to: Path, *options: str) -> Path:
    command = [COMPILER, "-std=c++17", HERE / source, "-o", to, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return to


@dataclass
class Peers:
    """Starts peers in one domain; what they print is returned as a dictionary."""

    program: Path
    lawless: Path
    keys: Path
    domain: int

    def enclave(self, node: str, keys: str = "ours") -> Path:
        return self.keys / keys / "enclaves" / "vla_ros" / node

    def start(
        self, role: str, name: str, topic: str, enclave: Path | None, lawless: bool = False
    ) -> subprocess.Popen[str]:
        package, kind = TYPES[topic].split("/")
        words = [role, name, self.domain, f"rt{topic}", f"{package}::msg::dds_::{kind}_", LIMIT]
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join([*library_folders(), os.environ.get("LD_LIBRARY_PATH", "")]),
            **({"LD_PRELOAD": str(self.lawless)} if lawless else {}),
        }
        command = [self.program, *map(str, words), *([str(enclave)] if enclave else [])]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(command, env=environment, text=True, **pipes)

    @contextmanager
    def running(self, *what: Any, **how: Any) -> Iterator[Callable[[], dict[str, Any]]]:
        """Start a peer; what is yielded ends it, and returns what it has printed."""
        process = self.start(*what, **how)

        def end() -> dict[str, Any]:
            process.stdin.close()
            process.stdin = None
            return said(process)

        try:
            yield end
        finally:
            process.kill()
            process.communicate()

    def reading(self, node: str, topic: str) -> AbstractContextManager[Callable[[], dict[str, Any]]]:
        return self.running("read", node, topic, self.enclave(node))

    def write(self, name: str, topic: str, enclave: Path, **how: bool) -> dict[str, Any]:
        """Write until a reader has acknowledged it."""
        return said(self.start("write", name, topic, enclave, **how))


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the end of a peer, and return what it has printed."""
    try:
        process.wait(timeout=2 * LIMIT)
    finally:
        process.kill()
        out, log = process.communicate()
    assert process.returncode == 0, log[-3000:]
    return {**json.loads(out), "log": log}


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Peers:
    folder, domain = tmp_path_factory.mktemp("security"), free_domain()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))  # the permissions are for this one
        for keys in ("ours", "foreign"):
            generate_artifacts(folder / keys, [], [share_file("config/security/policy.xml")])
    include = [f"-I{FAST_DDS / 'include'}", f"-I{FAST_DDS / 'include' / MULTIARCH}"]
    libraries = [f"{option}{where}" for where in library_folders() for option in ("-L", "-Wl,-rpath-link,")]
    return Peers(
        compiled("peer.cpp", folder / "peer", *include, *libraries, "-lfastrtps", "-lfastcdr"),
        compiled("lawless.cpp", folder / "lawless.so", "-shared", "-fPIC"),
        folder,
        domain,
    )


def with_own_permissions(enclave: Path, copy: Path) -> Path:
    """Copy an enclave as a thief of its key would change it: the right to command the arm, signed by himself.

    His certificate is beside that of our authority in what his process trusts, or it would refuse itself.
    """
    shutil.copytree(enclave, copy)
    text, asked = (copy / "permissions.xml").read_text(), f"<topic>rt{ARM}</topic>"
    changed, signed, key, certificate = (copy / n for n in ("changed.xml", "permissions.p7s", "his.key", "his.pem"))
    changed.write_text(text.replace("<topic>rt/rosout</topic>", asked))
    assert asked in changed.read_text()
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for words in (
        ("req", "-x509", *curve, "-subj", "/CN=thief", "-keyout", key, "-out", certificate),
        ("smime", "-sign", "-text", "-signer", certificate, "-inkey", key, "-in", changed, "-out", signed),
    ):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)
    with (copy / "permissions_ca.cert.pem").open("a") as trusted:
        trusted.write(certificate.read_text())
    return copy


@pytest.mark.parametrize(
    ("writer", "topic", "reader"),
    [
        ("safety_node", ARM, "robot"),
        ("safety_node", GRIPPER, "robot"),
        ("operator", "/vla/estop", "safety_node"),
        ("operator", "/vla/instruction", "instruction_node"),
        ("instruction_node", "/vla/task", "policy_node"),
        ("policy_node", "/vla/action_chunk", "safety_node"),
        ("policy_node", "/vla/policy_status", "safety_node"),
    ],
)
def test_who_has_the_right_is_heard(peers, writer, topic, reader):
    with peers.reading(reader, topic) as end:
        assert peers.write(writer, topic, peers.enclave(writer))["acknowledged"]
        assert list(end()["heard"]) == [writer]


@pytest.mark.parametrize("node", OTHERS)
def test_no_other_node_gets_a_writer_of_the_arm_command(peers, node):
    tried = peers.write(node, ARM, peers.enclave(node))
    assert tried["refused"] == "writer"
    assert NOT_GRANTED in tried["log"]


def test_a_lawless_participant_may_say_what_its_enclave_may(peers):
    """Without this, that the robot does not hear one below could be because nobody does."""
    with peers.reading("robot", "/vla/action_chunk") as end:
        assert peers.write("lawless", "/vla/action_chunk", peers.enclave("policy_node"), lawless=True)["acknowledged"]
        assert list(end()["heard"]) == ["lawless"]


@pytest.fixture(scope="module")
def intruders(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | None]:
    """Return what each intruder's process is given for an enclave."""
    changed = with_own_permissions(peers.enclave("policy_node"), tmp_path_factory.mktemp("thief") / "policy_node")
    strangers = [None, peers.enclave("safety_node", "foreign"), changed]
    return dict(zip(INTRUDERS, [*strangers, *map(peers.enclave, OTHERS)], strict=True))


@pytest.mark.parametrize("intruder", INTRUDERS)
def test_the_robot_hears_the_safety_node_and_not_the_intruder_before_it(peers, intruders, intruder):
    with (
        peers.reading("robot", ARM) as robot,
        peers.running("write", intruder, ARM, intruders[intruder], lawless=intruder in OTHERS) as other,
    ):
        begun = time.monotonic()
        assert peers.write("safety_node", ARM, peers.enclave("safety_node"))["acknowledged"]
        time.sleep(max(LEAST, time.monotonic() - begun))
        heard, tried = robot(), other()
    assert tried["refused"] is None, "it has not even tried"
    assert tried["matched"] == 0
    assert list(heard["heard"]) == ["safety_node"]
    assert heard["matched"] == 1
    assert INTRUDERS[intruder] in heard["log"]
