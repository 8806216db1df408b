"""Recorded sets whose actions are joint positions: from the form of LeRobot's arms to a policy that commands joints."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from vla_ros.actions.space import ActionSpace
from vla_ros.cli import main as cli
from vla_ros.data.catalogue import Line, open_dataset
from vla_ros.data.chunks import action_chunks
from vla_ros.data.errors import DataError, MissingColumnError
from vla_ros.data.step import Step
from vla_ros.paths import share_file
from vla_ros.policies.build import load_policy
from vla_ros.robot.action_override import write_contract
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.training.datasets.recorded_data import commanded_as
from vla_ros.training.datasets.stored_steps import Recording, store_steps
from vla_ros.types import Instruction, Observation, RobotState

RATE, COUNT = 30.0, 60
MOTORS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
GROUPS = [
    {"group": "arm/joint_position", "joints": 5, "unit": "degrees"},
    {"group": "arm/gripper", "gripper": "open_is_hundred"},
]
SO101 = ActionSpace.from_dict({"groups": GROUPS, "rate_hz": RATE, "horizon": 1})


def path(times, phase=0.0):
    """Return motors (n, 6) at times, s: five joints in degrees and the jaw in percent."""
    times = np.asarray(times)[..., None]
    middle, width = np.array([0.0, -20.0, 15.0, 60.0, 5.0, 50.0]), np.array([30.0, 15.0, 20.0, 25.0, 10.0, 40.0])
    return middle + width * np.sin(1.5 * times + phase + np.arange(6) / 3.0)


def episode(recordings, name, phase=0.0, convention=SO101, **changes):
    steps = []
    for index, step in enumerate(recordings.walk(name, COUNT, instruction="wave")):
        given = {
            "proprioception": path(index / RATE, phase),
            "proprioception_names": tuple(f"{m}.pos" for m in MOTORS),
            "action": path((index + 1) / RATE, phase),
            "convention": convention,
            "timestamp": index / RATE,
        }
        steps.append(replace(step, **{**given, **changes}))
    return steps


@pytest.fixture(scope="module")
def so101(tmp_path_factory):
    """The contract of the SO-101, commanded at its joints."""
    place = tmp_path_factory.mktemp("robot") / "so101_joints.yaml"
    action = f"action: {json.dumps({'groups': GROUPS, 'rate_hz': 10.0, 'horizon': 8})}\n"
    text = share_file("config/robots/so101.yaml").read_text(encoding="utf-8")
    text, found = re.subn(r"\naction:\n(?:  .*\n)+", "\n" + action, text)
    assert found == 1
    place.write_text(text, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def waving(recordings, tmp_path_factory):
    episodes = [episode(recordings, str(n), phase=0.5 * n) for n in range(4)]
    return recordings.write(tmp_path_factory.mktemp("sets") / "waving", episodes, max_opening=None, video_files=False)


def stored(folder, contract, cache):
    reader = open_dataset("lerobot", folder)
    (part,) = store_steps([Recording(Line("lerobot", folder, 1.0, {}), reader)], contract, cache, lambda e, _: e)
    return part


def test_joint_chunks_follow_the_motors_at_the_rate_of_the_robot(waving, so101, tmp_path):
    part = stored(waving, load_contract(so101), tmp_path)
    assert len(part) == 4 * COUNT and part.odd == ()
    for index in (0, 7, 20):
        ahead = index / RATE + (np.arange(8) + 1.0) / 10.0
        at = path(np.minimum(ahead, COUNT / RATE))
        np.testing.assert_allclose(part.chunks[index, :, :5], at[:, :5], atol=1e-3)
        np.testing.assert_allclose(part.states[index], path(index / RATE), atol=1e-4)
        # the jaw is held: row k is what was commanded at k periods
        np.testing.assert_allclose(
            part.chunks[index, :, 5], path(index / RATE + np.arange(8) / 10.0 + 1.0 / RATE)[:, 5], atol=1e-3
        )


def test_joint_set_trains_and_acts(waving, so101, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "--model",
        "unified",
        "--size",
        "tiny",
        "--out",
        "out",
        "--steps",
        "200",
        "--batch",
        "16",
        "--learning-rate",
        "0.003",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    assert cli.main(["train", "--data", str(waving), "--robot", str(so101), *words]) == 0
    contract = load_contract(so101)
    policy = load_policy("out", contract, "cpu")
    policy.reset(Instruction("wave"))
    images = {name: np.full((*size, 3), 120, np.uint8) for name, size in _sizes(contract).items()}
    for phase in (0.0, 1.0):
        motors = path(0.2, phase)
        joints = np.radians(motors[:5])
        pose = Kinematics(contract).forward(joints)
        state = RobotState(joints, np.zeros(5), contract.gripper.max_opening * motors[5] / 100.0, pose, 0.0)
        chunk = policy.predict(Observation(images, state, None, 0.0))
        assert chunk.actions.shape == (8, 6) and chunk.specification == contract.action.fingerprint
        # joints in degrees: near where they are, within what 0.1 s and a short training allow
        assert np.abs(chunk.actions[0, :5] - motors[:5]).max() < 15.0
        assert np.abs(chunk.actions[:, :5]).max() > 20.0  # not in radians


def test_contract_of_the_tool_takes_the_joints_of_the_data(waving, tmp_path):
    contract = load_contract("so101")
    recording = Recording(Line("lerobot", waving, 1.0, {}), open_dataset("lerobot", waving))
    assert contract.action.only_motion.quantity.of_tool
    commanded = commanded_as([recording], contract)
    assert commanded.action == replace(SO101, rate_hz=10.0, horizon=contract.action.horizon)
    assert commanded.joints is contract.joints and commanded_as([recording], commanded) is commanded
    found = load_contract(write_contract(commanded, tmp_path))
    assert found.action == commanded.action and found.urdf == contract.urdf and found.name == "so101"
    for line in ("lower", "upper", "velocity", "acceleration", "jerk", "home"):
        np.testing.assert_array_equal(getattr(found.joints, line), getattr(contract.joints, line))


def test_contract_of_another_arm_does_not_take_the_joints_of_the_data(waving):
    recording = Recording(Line("lerobot", waving, 1.0, {}), open_dataset("lerobot", waving))
    panda = load_contract("panda")
    assert commanded_as([recording], panda) is panda


def _sizes(contract):
    return {camera.name: (camera.policy_height, camera.policy_width) for camera in contract.cameras}


def test_joint_set_of_another_unit_is_odd(recordings, so101, tmp_path):
    """Degrees that are said to be radians."""
    groups = [{"group": "arm/joint_position", "joints": 5}, GROUPS[1]]
    wrong = ActionSpace.from_dict({"groups": groups, "rate_hz": RATE, "horizon": 1})
    folder = recordings.write(tmp_path / "set", [episode(recordings, "a", convention=wrong)], max_opening=None)
    with pytest.raises(DataError, match=r"joints measured are .* rad, expected within 0\.35 rad of the limits"):
        stored(folder, load_contract(so101), tmp_path / "cache")


def test_joint_set_without_joints_is_refused(recordings, so101, tmp_path):
    lost = episode(recordings, "a", proprioception=np.zeros(2), proprioception_names=("x", "y"))
    folder = recordings.write(tmp_path / "set", [lost], max_opening=None)
    with pytest.raises(MissingColumnError, match=r"the joints \['shoulder_pan'.* are not measured"):
        stored(folder, load_contract(so101), tmp_path / "cache")


def test_bimanual_set_of_fourteen_joints_gives_chunks():
    """ALOHA's form: two arms of six joints, rad, and a gripper each, 0 closed to 1 open, at 50 Hz."""
    groups = [
        one
        for side in ("left", "right")
        for one in (
            {"group": f"{side}/joint_position", "joints": 6},
            {"group": f"{side}/gripper", "gripper": "open_is_one"},
        )
    ]
    aloha = ActionSpace.from_dict({"groups": groups, "rate_hz": 50.0, "horizon": 1})
    wanted = replace(aloha, rate_hz=25.0, horizon=4)
    names = tuple(f"{side}_{part}" for side in ("left", "right") for part in ("a", "b", "c", "d", "e", "f", "gripper"))
    rows = np.sin(0.02 * np.arange(31)[:, None] + np.arange(14))
    rows[:, [6, 13]] = np.linspace(0.0, 1.0, 31)[:, None]
    steps = [
        Step({}, "lift it", rows[i], rows[i + 1], aloha, "lift", "a", i, i / 50.0, i == 29, True, names)
        for i in range(30)
    ]
    chunks = action_chunks(steps, wanted, None)
    assert chunks.shape == (30, 4, 14)
    joints = [c for c in range(14) if c not in (6, 13)]
    for index in (0, 5, 20):
        np.testing.assert_allclose(chunks[index][:, joints], rows[index + 2 : index + 10 : 2][:, joints], atol=1e-12)
    groups = (replace(g, quantity="joint_delta", reference="relative") if g.joints else g for g in aloha.groups)
    relative = replace(aloha, groups=tuple(groups))
    seen = action_chunks(steps, replace(relative, horizon=3), None)
    for index in (0, 5, 20):
        expected = rows[index + 1 : index + 4][:, joints] - rows[index][joints]
        np.testing.assert_allclose(seen[index][:, joints], expected, atol=1e-12)
