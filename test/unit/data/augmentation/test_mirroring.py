"""A mirrored picture comes with mirrored actions and words, or not at all."""

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation as Scipy

from vla_ros.actions.decoding import PoseTrajectory, decode, encode
from vla_ros.actions.space import ActionSpace
from vla_ros.data.augmentation.mirroring import MirrorError, MirrorPlane, mirror, mirror_action, mirror_words
from vla_ros.data.errors import ConventionError
from vla_ros.types import Pose

S = np.diag([1.0, -1.0, 1.0])
ALL = list(
    itertools.product(
        ("absolute", "relative", "delta"),
        ("none", "rotation_vector", "quaternion", "six_d"),
        ("none", "opening", "open_is_one"),
    )
)
RNG = np.random.default_rng(4)


def reflected(pose):
    return Pose(
        S @ pose.position, Scipy.from_matrix(S @ Scipy.from_quat(pose.quaternion.copy()).as_matrix() @ S).as_quat()
    )


@pytest.mark.parametrize(("reference", "rotation", "gripper"), ALL)
def test_a_mirrored_action_leads_to_the_mirrored_place(reference, rotation, gripper):
    """Independent truth: matrices S R S of what the actions are decoded to."""
    convention = ActionSpace.of_one_tool("base", reference, rotation, gripper, 10.0, 4)
    start = Pose(RNG.normal(size=3), Scipy.random(random_state=RNG).as_quat())
    quaternions = Scipy.random(4, random_state=RNG).as_quat()
    if rotation == "none":
        quaternions = np.tile(start.quaternion, (4, 1))
    trajectory = PoseTrajectory(RNG.normal(size=(4, 3)), quaternions, RNG.uniform(0, 0.08, 4))
    actions = encode(trajectory, convention, start, 0.08)
    found = decode(mirror_action(actions, convention), convention, reflected(start), 0.08)
    np.testing.assert_allclose(found.positions, trajectory.positions @ S, atol=1e-9)
    for i in range(4):
        wanted = S @ Scipy.from_quat(quaternions[i]).as_matrix() @ S
        np.testing.assert_allclose(Scipy.from_quat(found.quaternions[i]).as_matrix(), wanted, atol=1e-6)
    if gripper != "none":
        np.testing.assert_allclose(found.openings, trajectory.openings, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("push the cube to the left", "push the cube to the right"),
        ("Right of the LEFT ball", "Left of the RIGHT ball"),
        ("take the leftmost block, not the right-hand one", "take the rightmost block, not the left-hand one"),
        ("slide it rightwards", "slide it leftwards"),
        ("turn the knob clockwise", "turn the knob counterclockwise"),
        ("turn it anti-clockwise", "turn it clockwise"),
        ("the upright bright leftover cup", "the upright bright leftover cup"),
        ("push forward", "push forward"),
        ("the cube is left of the ball", "the cube is right of the ball"),
    ],
)
def test_words_are_mirrored(given, wanted):
    assert mirror_words(given) == wanted


@pytest.mark.parametrize(
    "sentence",
    [
        "do it right now",
        "take what is left",
        "pick the right tool",
        "left over bits",
        "turn it by a right angle",
        "put it right side up",
    ],
)
def test_a_word_that_may_be_no_direction_stops_it(sentence):
    with pytest.raises(MirrorError, match="perhaps no direction"):
        mirror_words(sentence)


PLANE = MirrorPlane("base", frozenset({"front", "wrist"}), {"joint_1": -1.0})


def test_pictures_actions_measurements_and_words_go_together(demonstrations):
    step = demonstrations.step(1, 2, 5, instruction="push it to the left")
    other = mirror(step, PLANE)
    for camera, image in step.images.items():
        np.testing.assert_array_equal(other.images[camera], image[:, ::-1])
        assert not np.array_equal(other.images[camera], image)
    assert other.instruction == "push it to the right"
    np.testing.assert_array_equal(other.action, step.action * (1, -1, 1, -1, 1, -1, 1))
    np.testing.assert_array_equal(other.proprioception, step.proprioception * (-1, 1, -1, 1, -1, 1, -1, 1, 1))
    np.testing.assert_allclose(other.end_effector.position, S @ step.end_effector.position)
    again = mirror(other, PLANE)
    assert again.instruction == step.instruction
    np.testing.assert_array_equal(again.action, step.action)
    np.testing.assert_array_equal(again.images["front"], step.images["front"])


def test_a_flipped_picture_is_what_a_symmetric_camera_sees_of_the_mirrored_world():
    """A pinhole camera in the plane y = 0 that looks along x: the pixel of S p is the flipped pixel of p."""
    width, focal = 64, 40.0
    for place in RNG.uniform((0.5, -0.3, -0.2), (1.5, 0.3, 0.2), (50, 3)):
        column = (width - 1) / 2 - focal * place[1] / place[0]
        mirrored = S @ place
        assert (width - 1) / 2 - focal * mirrored[1] / mirrored[0] == pytest.approx(width - 1 - column)


@pytest.mark.parametrize(
    ("plane", "words"),
    [
        (MirrorPlane("base", frozenset({"front"}), {"joint_1": -1.0}), "'wrist'"),
        (MirrorPlane("base", frozenset({"front", "wrist"})), "joint_1"),
        (MirrorPlane("tool", frozenset({"front", "wrist"}), {"joint_1": -1.0}), "frame 'base'"),
    ],
)
def test_what_is_not_known_is_not_mirrored(demonstrations, plane, words):
    with pytest.raises(MirrorError, match=words):
        mirror(demonstrations.step(0, 0, 1), plane)


def test_signs_are_signs():
    with pytest.raises(ConventionError, match="-1 or 1"):
        MirrorPlane("base", frozenset(), {"joint_1": 0.5})
