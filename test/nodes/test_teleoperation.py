"""`vla-ros record --teleop` through the real graph: a person at a terminal moves the arm, and the episode is kept."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
import yaml
from sensor_msgs.msg import JointState

from vla_ros.bringup.runner import RosLink
from vla_ros.cli.main import main
from vla_ros.client.observer import Observer
from vla_ros.client.stage import Stage
from vla_ros.data import assembly
from vla_ros.data.lerobot.reader import LeRobotReader
from vla_ros.msg import Instruction
from vla_ros.paths import share_file
from vla_ros.recording.bag import BagReader
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.dds.domains import claim_domain
from vla_ros.ros.messages.conversions import joint_state_to_robot_state
from vla_ros.ros.qos import qos
from vla_ros.safety.parameters import SAFETY_FILE, load_parameters
from vla_ros.safety.selftest.record import SelftestRecord, default_folder, fingerprint, keep, table_names

CONTRACT = load_contract("panda")
PATIENT = {
    "state_timeout": 0.5,
    "chunk_timeout": 5.0,
    "policy_slow": 0.9,
    "policy_timeout": 1.0,
    "inference_timeout": 5.0,
    "observation_slow_age": 4.0,
    "observation_hold_age": 5.0,
    "future_tolerance": 0.2,
    "missed_ticks_slow": 50,
    "missed_ticks_hold": 100,
}
"""The longest that there may be, for a busy machine: this is about who drives, and other tests are about how fast."""

UP = 120.0  # s, until the graph runs and the robot is armed
MOVES = 120.0  # s, for the arm to go where the keys send it
RESTS = 60.0  # s, for the arm to come to rest once no key comes any more
DISTANCE = 0.02  # m
STILL = 1.5  # s without a change of the joints: more than a press lasts
AT_REST = 2e-3  # rad between two looks, far above the noise of a simulated encoder and far below any motion


class Person(threading.Thread):
    """Watches the arm in the graph's domain, and types on the other end of the terminal."""

    def __init__(self, domain: int, terminal: int) -> None:
        super().__init__(daemon=True)
        self._domain, self._terminal = domain, terminal
        self._kinematics = Kinematics(CONTRACT)
        self._joints: JointState | None = None
        self.moved = np.zeros(3)
        self.fault = ""

    def run(self) -> None:
        link = RosLink("person", self._domain)
        try:
            self._drive(link)
        except Exception as error:
            self.fault = f"{type(error).__name__}: {error}"
        finally:
            # Whatever has come of it, the session ends.
            os.write(self._terminal, b"\x1b" if self.fault else b"\n")
            link.close()

    def _drive(self, link: RosLink) -> None:
        observer = Observer(link.node)
        topic = CONTRACT.controllers.joint_states_topic
        link.node.create_subscription(JointState, topic, self._keep, qos("joint_states"))
        self._wait_for_task(observer, 0)
        os.write(self._terminal, b"\x7f")  # once more, before anything has happened
        self._wait_for_task(observer, observer.instruction.sequence)
        before, end = self._tool(), time.monotonic() + MOVES
        while self._tool()[0] - before[0] < DISTANCE:
            assert time.monotonic() < end, f"the arm does not move: {observer.safety.sentence}"
            os.write(self._terminal, b"w")
            observer.wait(lambda: False, 0.1)
        last, since, end = self._joints.position, time.monotonic(), time.monotonic() + RESTS
        while time.monotonic() - since < STILL:
            assert time.monotonic() < end, "the arm does not come to rest"
            time.sleep(0.05)
            if np.abs(np.subtract(self._joints.position, last)).max() > AT_REST:
                last, since = self._joints.position, time.monotonic()
        self.moved = self._tool() - before

    def _wait_for_task(self, observer: Observer, number: int) -> None:
        def asked() -> bool:
            task = observer.instruction
            return task.sequence > number and task.kind == Instruction.TASK and observer.safety.armed

        assert observer.wait(asked, UP), f"no task after {number}: {observer.safety.sentence}"

    def _keep(self, message: JointState) -> None:
        self._joints = message

    def _tool(self) -> np.ndarray:
        end = time.monotonic() + UP
        while self._joints is None:
            assert time.monotonic() < end, "no joint state"
            time.sleep(0.01)
        return joint_state_to_robot_state(self._joints, CONTRACT, self._kinematics).end_effector.position


@pytest.fixture
def terminal(monkeypatch):
    person, program = os.openpty()
    with os.fdopen(program, "r") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield person
    os.close(person)


@pytest.fixture
def patience(tmp_path, monkeypatch):
    """A safety layer that has passed its self-test and knows no hurry, and a recorder that bears a stall."""
    monkeypatch.setattr(assembly, "MAX_GAP", 100.0)
    content = yaml.safe_load(share_file(SAFETY_FILE).read_text(encoding="utf-8"))
    content["timing"] |= PATIENT
    path = tmp_path / SAFETY_FILE  # found first: it lies in the folder that the nodes are started in
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mark = fingerprint(CONTRACT, load_parameters())
    names = table_names()
    keep(default_folder(), SelftestRecord(mark, len(names), (), time.time(), names))


@pytest.fixture
def haste(terminal, monkeypatch):
    """Somebody who presses Enter and moves on before each scene is there and the arm is armed."""
    set_up = Stage.set_up

    def press(stage, *words):
        os.write(terminal, b"w\nw")
        return set_up(stage, *words)

    monkeypatch.setattr(Stage, "set_up", press)


def test_keys_move_the_arm_and_the_episode_is_kept(terminal, patience, haste, tmp_path, capsys):
    domain, claim = claim_domain()
    claim.close()
    person = Person(domain, terminal)
    person.start()
    words = ["--teleop", "--seed", "5", "--episodes", "1", "--timeout", "250", "--domain", str(domain)]
    answer = main(["record", *words, "--out", str(tmp_path)])
    person.join(10.0)
    assert not person.fault
    assert person.moved[0] > DISTANCE
    assert np.abs(person.moved[1:]).max() < DISTANCE  # forward, and nowhere else
    printed = capsys.readouterr()
    assert answer == 0, printed
    assert "dropped:" not in printed.out  # what was pressed in haste ended no episode
    assert 'armed: "pick up' in printed.out
    bags = BagReader(tmp_path / "mcap")
    assert [name.rsplit("_", 1)[1] for name in bags.episodes] == ["000005"]  # the first scene, though it was done again
    recorded = list(bags.read(bags.episodes[0]))
    stored = LeRobotReader(tmp_path / "lerobot")
    assert len(list(stored.read(stored.episodes[0]))) == len(recorded)
    assert recorded[-1].success is True
    assert max(step.action[0] for step in recorded) > 0.0


def test_on_a_robot_the_domain_is_the_one_of_its_drivers(terminal, tmp_path, capsys, monkeypatch):
    domain, claim = claim_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    with claim:  # another graph holds it: what is recorded would begin there, and is refused
        assert main(["record", "--real", "--teleop", "--instruction", "push it", "--out", str(tmp_path)]) == 1
    assert f"domain {domain} is used by another graph" in capsys.readouterr().err
    monkeypatch.setenv("ROS_DOMAIN_ID", "zero")
    assert main(["record", "--real", "--teleop", "--instruction", "push it", "--out", str(tmp_path)]) == 2
    assert "ROS_DOMAIN_ID is 'zero'" in capsys.readouterr().err
