"""Recorded sets of two arms: from columns of joints and grippers to a policy whose plans the safety layer accepts."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import yaml

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from vla_ros.actions.space import ActionSpace
from vla_ros.cli import main as cli
from vla_ros.data.catalogue import Line, open_dataset
from vla_ros.data.errors import ConventionError, DataError, MissingColumnError
from vla_ros.data.step import Step
from vla_ros.errors import CheckpointError, ObservationError
from vla_ros.paths import share_file
from vla_ros.policies.build import load_policy
from vla_ros.robot.contract import load_contract
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.shadow import Shadow
from vla_ros.training.datasets.stored_steps import Recording, store_steps
from vla_ros.types import Instruction, Observation, RobotState

SIDES = ("left", "right")
APART = {"left": 0.75, "right": -0.75}  # m, of the bases of the arms of six joints, along y
RATE, COUNT, SPEED = 50.0, 100, 0.4  # 1/s, steps an episode, rad/s
SENTENCE = "hand it over"
WAY = np.array([0.25, 0.08, -0.1, 0.1, 0.25])  # rad, of the first joints of each arm
NEAR = 0.1  # rad


def two_of_six(folder):
    """Write a robot of two UR5e, left and right, and return the file of its contract."""
    robot = ElementTree.Element("robot", name="pair")
    ElementTree.SubElement(robot, "link", name="stand")
    source = ElementTree.parse(share_file("urdf/ur5e.urdf")).getroot()
    for side in SIDES:
        for part in copy.deepcopy(source):
            if part.tag not in ("link", "joint"):
                continue
            part.set("name", f"{side}_{part.get('name')}")
            for end in [*part.iter("parent"), *part.iter("child")]:
                end.set("link", f"{side}_{end.get('link')}")
            for material in list(part.iter("visual")):
                part.remove(material)
            robot.append(part)
        mount = ElementTree.SubElement(robot, "joint", name=f"{side}_mount", type="fixed")
        ElementTree.SubElement(mount, "parent", link="stand")
        ElementTree.SubElement(mount, "child", link=f"{side}_base_link")
        ElementTree.SubElement(mount, "origin", xyz=f"0 {APART[side]} 0", rpy="0 0 0")
    (folder / "pair.urdf").write_bytes(ElementTree.tostring(robot))
    one = yaml.safe_load(share_file("config/robots/ur5e.yaml").read_text(encoding="utf-8"))
    groups = [
        group
        for side in SIDES
        for group in (
            {"group": f"{side}/joint_position", "joints": 6},
            {"group": f"{side}/gripper", "gripper": "open_is_one"},
        )
    ]
    front = one["cameras"]["front"] | {"pose": one["cameras"]["front"]["pose"] | {"parent": "stand"}}
    lines = {
        "name": "pair",
        "urdf": "pair.urdf",
        "base_frame": "stand",
        "arms": [_arm(one, side) for side in SIDES],
        "cameras": {"front": front},
        "controllers": {line: one["controllers"][line] for line in ("joint_states_topic", "command_timeout")},
        "action": {"groups": groups, "rate_hz": 25.0, "horizon": 12},
    }
    path = folder / "pair.yaml"
    path.write_text(yaml.safe_dump(lines, sort_keys=False), encoding="utf-8")
    return path


def _arm(one, side):
    box = copy.deepcopy(one["cartesian"])
    for end in ("lower", "upper"):
        box["workspace"][end][1] += APART[side]
    joints, gripper = dict(one["joints"]), dict(one["gripper"])
    joints["names"] = [f"{side}_{name}" for name in joints["names"]]
    gripper["names"] = [f"{side}_{name}" for name in gripper["names"]]
    own = ("arm_interface", "arm_topic", "gripper_interface", "gripper_topic")
    controllers = {line: one["controllers"][line] for line in own}
    controllers |= {line: f"/{side}{controllers[line]}" for line in ("arm_topic", "gripper_topic")}
    return {
        "name": side,
        "end_effector_frame": f"{side}_{one['end_effector_frame']}",
        "joints": joints,
        "cartesian": box,
        "gripper": gripper,
        "controllers": controllers,
    }


@pytest.fixture(scope="module", params=["aloha", "so101_pair"])
def robot(request, tmp_path_factory):
    """The contract: two arms of six joints in rad, as ALOHA's are, and two SO-101."""
    if request.param == "so101_pair":
        return "so101_pair"
    return str(two_of_six(tmp_path_factory.mktemp("robot")))


def target_of(contract):
    """Return where every episode ends, rad: each arm another way from home."""
    goal = np.array(contract.joints.home)
    for arm, sign in zip(contract.arms, (1.0, -1.0), strict=True):
        columns = contract.joint_columns(arm.name)
        goal[columns][: len(WAY)] += sign * WAY
    return goal


def as_columns(contract, joints, openings):
    """Return joints (n,) rad and openings, 0 to 1, as a set has them: those of each arm behind each other."""
    parts = []
    for arm, opening in zip(contract.arms, openings, strict=True):
        parts += [*joints[contract.joint_columns(arm.name)], opening]
    return np.array(parts)


def write(recordings, folder, contract, **changes):
    space = replace(contract.action, rate_hz=RATE, horizon=1)
    episodes = [episode(contract, str(number), space, **changes) for number in range(4)]
    return recordings.write(folder, episodes, max_opening=None, video_files=False)


def episode(contract, name, space, **changes):
    names = tuple(f"{arm.name}_{k}" for arm in contract.arms for k in range(arm.joints.count + 1))
    rng, goal = np.random.default_rng(int(name)), target_of(contract)
    joints = contract.joints.home + rng.uniform(-0.05, 0.05, contract.joints.count)
    steps = []
    for index in range(COUNT):
        way = goal - joints
        ahead = joints + np.sign(way) * np.minimum(np.abs(way), SPEED / RATE)
        fingers = (1.0, float(index < COUNT // 2)), (1.0, float(index + 1 < COUNT // 2))
        given = {
            "images": images(contract, index),
            "instruction": SENTENCE,
            "convention": space,
            "task": "hand over",
            "proprioception": as_columns(contract, joints, fingers[0]),
            "proprioception_names": names,
            "action": as_columns(contract, ahead, fingers[1]),
            "episode": name,
            "index": index,
            "timestamp": index / RATE,
            "last": index == COUNT - 1,
            "success": True,
        }
        steps.append(Step(**{**given, **changes}))
        joints = ahead
    return steps


def images(contract, index=0):
    level = 100 + index % 20
    return {c.name: np.full((c.policy_height, c.policy_width, 3), level, np.uint8) for c in contract.cameras}


@pytest.fixture(scope="module")
def trained(robot, recordings, tmp_path_factory):
    """The contract, the data set and the checkpoint that `vla-ros train` makes of it."""
    folder, contract = tmp_path_factory.mktemp("trained"), load_contract(robot)
    data = write(recordings, folder / "set", contract)
    words = ["--model", "unified", "--size", "tiny", "--steps", "200", "--batch", "16", "--learning-rate", "0.003"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command = ["train", "--data", str(data), "--robot", robot, "--out", "policy", "--device", "cpu"]
        assert cli.main([*command, *words, "--threads", "1"]) == 0
    return contract, data, folder / "policy"


def test_two_arms_train_and_their_plans_are_accepted(trained):
    contract, _, folder = trained
    policy = load_policy(str(folder), contract, "cpu")
    policy.reset(Instruction(SENTENCE))
    shadow = Shadow(contract, load_parameters())
    assert shadow.start() is Reason.OK
    goal, period = target_of(contract), contract.action.period
    begin = np.abs(shadow.q - goal)
    for tick in range(round(3.0 / shadow.period)):
        if tick % round(period / shadow.period) == 0:
            observation = Observation(images(contract), shadow.state(), None, shadow.stamp)
            chunk = policy.predict(observation)
            assert chunk.actions.shape == (contract.action.horizon, contract.action.width)
            shadow.sequence += 1
            shadow.inferences += 1
            assert shadow.send(replace(chunk, sequence=shadow.sequence)) is Reason.OK
        shadow.tick()
    error = np.abs(shadow.q - goal)
    for arm in contract.arms:
        columns = contract.joint_columns(arm.name)
        assert begin[columns].max() > 2.0 * NEAR and error[columns].max() < NEAR, (arm.name, begin, error)
    assert shadow.supervisor.counters.rejected_chunks == 0


def test_state_of_each_arm_is_its_own(trained):
    contract, _, folder = trained
    policy = load_policy(str(folder), contract, "cpu")
    n = contract.joints.count
    joints, wide = 0.01 * np.arange(n), [arm.gripper.max_opening for arm in contract.arms]
    state = RobotState.of_arms(joints, np.zeros(n), [wide[0], 0.5 * wide[1]], 0.0)
    _, seen = policy._frame(Observation(images(contract), state, None, 0.0))
    values = policy.processor.statistics.state.unnormalize(seen[0].numpy())
    np.testing.assert_allclose(values, as_columns(contract, joints, (1.0, 0.5)), atol=1e-5)
    lost = RobotState.of_arms(joints[:-1], np.zeros(n - 1), wide, 0.0)
    with pytest.raises(ObservationError, match=rf"has {n - 1} joints and 2 grippers, the arms \['left', 'right'\]"):
        policy._frame(Observation(images(contract), lost, None, 0.0))


def test_checkpoint_of_two_arms_is_refused_by_others(trained):
    contract, _, folder = trained
    with pytest.raises(CheckpointError, match=r"arms\.left\.joints\.names: trained with .*, the robot has None"):
        load_policy(str(folder), load_contract("so101"), "cpu")
    crossed = load_contract("so101_pair")
    if contract.name != crossed.name:
        with pytest.raises(CheckpointError, match=r"arms\.right\.joints\.names: trained with"):
            load_policy(str(folder), crossed, "cpu")


def stored(folder, contract, cache):
    reader = open_dataset("lerobot", folder)
    return store_steps([Recording(Line("lerobot", folder, 1.0, {}), reader)], contract, cache, lambda e, _: e)


def test_sets_that_do_not_fit_two_arms_are_refused(robot, recordings, tmp_path):
    contract = load_contract(robot)
    short = write(recordings, tmp_path / "short", contract, proprioception=np.zeros(2), proprioception_names=("x", "y"))
    with pytest.raises(MissingColumnError, match="the grippers' openings are not measured: of several arms"):
        stored(short, contract, tmp_path / "cache")
    far = as_columns(contract, np.full(contract.joints.count, 30.0), (1.0, 1.0))
    with pytest.raises(DataError, match=r"the joints measured are .* rad, expected within 0\.35 rad of the limits"):
        stored(write(recordings, tmp_path / "far", contract, proprioception=far), contract, tmp_path / "cache")
    left = [group.to_dict() for group in contract.action.of_arm("left")]
    space = ActionSpace.from_dict({"groups": left, "rate_hz": RATE, "horizon": 1})
    whole = episode(contract, "0", replace(contract.action, rate_hz=RATE, horizon=1))
    half = [
        replace(
            step,
            action=step.action[: space.width],
            convention=space,
            proprioception=step.proprioception[: space.width],
            proprioception_names=step.proprioception_names[: space.width],
        )
        for step in whole
    ]
    alone = recordings.write(tmp_path / "half", [half], max_opening=None, video_files=False)
    with pytest.raises(ConventionError, match=r"arms are \['left'\] there, \['left', 'right'\] here"):
        stored(alone, contract, tmp_path / "cache")
