"""One observation through the live path and through the data path, and what the processor refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vla_ros.actions.groups import ActionGroup
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ContractError, InstructionError, ObservationError
from vla_ros.language.tokenizer import WordTokenizer
from vla_ros.processing.features import CameraFeature, Fit, PolicyFeatures, default_state, tool_state
from vla_ros.processing.normalizer import Method, Normalizer
from vla_ros.processing.processor import Processor, Statistics
from vla_ros.processing.state import ArmState, state_values
from vla_ros.types import Pose

TOOL = ActionSpace.from_dict(
    {
        "frame": "base",
        "reference": "relative",
        "rotation": "rotation_vector",
        "gripper": "open_is_one",
        "rate_hz": 10.0,
        "horizon": 4,
    }
)
ALOHA = ActionSpace.from_dict(
    {
        "groups": [
            {"group": "left/joint_position", "joints": 6},
            {"group": "left/gripper", "gripper": "open_is_one"},
            {"group": "right/joint_position", "joints": 6},
            {"group": "right/gripper", "gripper": "closed_is_plus"},
        ],
        "rate_hz": 50.0,
        "horizon": 4,
    }
)
SO101 = ActionSpace.from_dict(
    {
        "groups": [
            {"group": "arm/joint_position", "joints": 5, "unit": "degrees"},
            {"group": "arm/gripper", "gripper": "open_is_hundred"},
        ],
        "rate_hz": 30.0,
        "horizon": 4,
    }
)
CAMERAS = (CameraFeature("front", 24, 32), CameraFeature("wrist", 24, 32, source="hand", fit=Fit.PAD))


def processor_of(action: ActionSpace, method: Method = Method.MEAN_STD) -> Processor:
    features = PolicyFeatures(CAMERAS, default_state(action), action, words=4)
    rng = np.random.default_rng(1)
    statistics = Statistics(
        Normalizer.fit(rng.normal(size=(50, features.state_width)), 1e-3, method),
        Normalizer.fit(rng.normal(size=(50, action.horizon, len(features.continuous_columns))), 1e-3, method),
    )
    return Processor(features, statistics, WordTokenizer(("lift", "it")))


@pytest.mark.parametrize(
    ("action", "state", "continuous", "binary", "rotations"),
    [
        (TOOL, 10, (0, 1, 2, 3, 4, 5), (6,), (3, 4, 5)),
        (ALOHA, 14, (0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12), (6, 13), ()),
        (SO101, 6, (0, 1, 2, 3, 4, 5), (), ()),
    ],
)
def test_widths_come_from_the_features(action, state, continuous, binary, rotations) -> None:
    features = processor_of(action).features
    assert features.state_width == state
    assert (features.continuous_columns, features.binary_columns) == (continuous, binary)
    assert features.rotation_columns == rotations
    assert PolicyFeatures.from_dict(json.loads(json.dumps(features.to_dict()))) == features


def test_gripper_of_two_states_can_be_continuous() -> None:
    features = PolicyFeatures(CAMERAS, default_state(ALOHA), ALOHA, words=4, binary=("left/gripper",))
    assert features.binary_columns == (6,) and len(features.continuous_columns) == 13
    with pytest.raises(ContractError, match=r"binary names \['arm/gripper'\]"):
        PolicyFeatures(CAMERAS, default_state(SO101), SO101, words=4, binary=("arm/gripper",))


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("action", [TOOL, ALOHA, SO101])
def test_actions_come_back_from_their_targets(action: ActionSpace, method: Method) -> None:
    processor = processor_of(action, method)
    chunk = np.random.default_rng(2).normal(size=(4, action.width))
    for column, states in zip(processor.features.binary_columns, processor.features.binary_states, strict=True):
        chunk[:, column] = np.array(states)[[0, 1, 1, 0]]
    continuous, binary = processor.targets(chunk)
    assert binary.shape[-1] == 0 or binary[:, 0].tolist() == [0.0, 1.0, 1.0, 0.0]
    np.testing.assert_allclose(processor.actions(continuous, binary - 0.5), chunk, atol=1e-6)


def test_processor_survives_the_checkpoint() -> None:
    processor = processor_of(ALOHA, Method.QUANTILE)
    again = Processor.from_dict(json.loads(json.dumps(processor.to_dict())))
    state, chunk = np.arange(14.0), np.arange(56.0).reshape(4, 14)
    assert torch.equal(again.state(state), processor.state(state))
    assert all(torch.equal(a, b) for a, b in zip(again.targets(chunk), processor.targets(chunk), strict=True))
    assert torch.equal(again.tokens(["lift it"]), processor.tokens(["lift it"]))
    assert again.to_dict() == processor.to_dict()


def test_state_has_the_units_of_its_groups() -> None:
    turned = Pose([0.1, 0.2, 0.3], [0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])  # by a quarter about z
    arm = ArmState(np.array([np.pi, 0.0, -np.pi / 2, 0.0, 0.0]), None, turned, 0.02, 0.08)
    expected = [0.1, 0.2, 0.3, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.02]
    np.testing.assert_allclose(state_values(tool_state(TOOL), {"arm": arm}), expected, atol=1e-12)
    degrees = [180.0, 0.0, -90.0, 0.0, 0.0, 25.0]
    np.testing.assert_allclose(state_values(default_state(SO101), {"arm": arm}), degrees, atol=1e-12)


@pytest.mark.parametrize(
    ("action", "arms", "says"),
    [
        (TOOL, {"arm": ArmState(opening=0.0)}, "'arm/ee_pose' needs the pose"),
        (TOOL, {"arm": ArmState(pose=Pose([0, 0, 0], [0, 0, 0, 1]))}, "'arm/gripper' needs the gripper's opening"),
        (SO101, {"arm": ArmState(np.zeros(6), opening=0.0, max_opening=1.0)}, "needs 5 joints, 6 were measured"),
        (ALOHA, {"left": ArmState(np.zeros(6), opening=0.0, max_opening=1.0)}, "nothing was measured of arm 'right'"),
    ],
)
def test_measurement_that_is_missing_is_named(action, arms, says) -> None:
    with pytest.raises(ObservationError, match=says):
        processor_of(action).state_of(arms)


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_images_of_any_size_are_brought_to_the_policys() -> None:
    processor = processor_of(TOOL)
    same = image(24, 32)
    found = processor.images({"front": same, "hand": image(60, 20)})
    assert torch.equal(found["front"][0], torch.from_numpy(same).permute(2, 0, 1).float() / 255.0)
    assert found["wrist"].shape == (1, 3, 24, 32)
    assert not found["wrist"][..., :12].any() and not found["wrist"][..., 20:].any()  # 8 columns of 32, in the middle
    assert found["wrist"][..., 12:20].all(dim=1).any()
    shrunk = processor.images({"front": image(48, 64), "hand": same})["front"]
    torch.testing.assert_close(
        shrunk[0, :, 0, 0], torch.from_numpy(image(48, 64)[:2, :2]).float().mean((0, 1)) / 255, atol=2e-3, rtol=0
    )


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ({"front": image(24, 32)}, "needs camera 'hand', the observation has"),
        ({"front": image(24, 33), "hand": image(24, 32)}, "the image is 24 x 33, the policy sees 24 x 32"),
        ({"front": image(12, 16), "hand": image(24, 32)}, "nothing is cut, stretched or enlarged"),
        ({"front": image(24, 32)[..., 0], "hand": image(24, 32)}, "expected \\(height, width, 3\\) uint8"),
    ],
)
def test_image_that_cannot_be_brought_to_size_is_refused(images, says) -> None:
    with pytest.raises(ObservationError, match=says):
        processor_of(TOOL).images(images)


def test_places_need_a_tool() -> None:
    assert processor_of(TOOL).places(np.zeros((2, 3))).shape == (2, 3)
    with pytest.raises(ContractError, match="places need a tool's position"):
        processor_of(ALOHA).places(np.zeros((2, 3)))


def test_long_instruction_is_refused() -> None:
    with pytest.raises(InstructionError, match="at most 4"):
        processor_of(TOOL).tokens(["lift it lift it lift"])


def test_features_that_contradict_themselves_are_refused() -> None:
    delta = ActionGroup("arm", "joint_delta", "delta", joints=3)
    for change, says in (
        ({"cameras": (CAMERAS[0], CAMERAS[0])}, "each name once"),
        ({"state": (delta,)}, "are differences"),
        ({"words": -1}, "words is -1"),
        ({"history": 0}, "history 0"),
    ):
        with pytest.raises(ContractError, match=says):
            replace(processor_of(TOOL).features, **change)
    processor = processor_of(TOOL)
    with pytest.raises(ContractError, match=r"statistics of the state have shape \(14,\)"):
        processor.with_statistics(Statistics(processor_of(ALOHA).statistics.state, processor.statistics.action))
