import re
from dataclasses import fields

import numpy as np
import pytest
import yaml

from vla_ros.bringup.security_policy import policy
from vla_ros.errors import ContractError
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.robot.sections.camera import CameraHealthLimits
from vla_ros.ros.messages.interfaces import robot_topics

SHIPPED = yaml.safe_load(load_contract("panda").text)


def parse(values):
    return parse_contract(yaml.safe_dump(values, sort_keys=False))


def changed(path, value):
    """The shipped contract with one line replaced, or dropped when `value` is None."""
    values = yaml.safe_load(load_contract("panda").text)
    place = values
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return values


def leaves(values, path=()):
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


def test_the_shipped_contract_says_what_its_file_says():
    contract = parse(SHIPPED)
    assert contract.joints.count == 7
    np.testing.assert_array_equal(contract.joints.velocity, SHIPPED["joints"]["velocity"])
    assert contract.gripper.max_opening == SHIPPED["gripper"]["max_opening"]
    assert contract.action.horizon == SHIPPED["action"]["horizon"]
    assert contract.camera("wrist").topic == SHIPPED["cameras"]["wrist"]["topic"]


@pytest.mark.parametrize("path", list(leaves(SHIPPED)), ids=".".join)
def test_no_line_may_be_missing(path):
    if path in (("cameras", "front"), ("cameras", "wrist"), ("contact",)):
        return  # a robot may have fewer cameras; contracts older than contact detection have no thresholds
    if path[-1] == "info_topic":
        return  # no node reads it
    if path[-1] == "pose":
        return  # the description may have the frame; without either there is none in the tree
    with pytest.raises(ContractError, match=path[-1]):
        parse(changed(path, None))


@pytest.mark.parametrize(
    "path",
    [
        ("colour",),
        ("joints", "colour"),
        ("cartesian", "colour"),
        ("cartesian", "workspace", "colour"),
        ("gripper", "colour"),
        ("cameras", "front", "colour"),
        ("controllers", "colour"),
        ("action", "colour"),
    ],
)
def test_an_unknown_line_is_refused(path):
    with pytest.raises(ContractError, match="colour"):
        parse(changed(path, "red"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("joints", "velocity"), [1.0] * 6),
        (("joints", "velocity"), [1.0] * 6 + [0.0]),
        (("joints", "velocity"), [1.0] * 6 + [float("nan")]),
        (("joints", "velocity"), [1.0] * 6 + [float("inf")]),
        (("joints", "velocity"), "fast"),
        (("joints", "upper"), [-3.0] * 7),
        (("joints", "home"), [9.0] * 7),
        (("joints", "names"), ["panda_joint1"] * 7),
        (("cartesian", "linear_velocity"), -1.0),
        (("cartesian", "linear_velocity"), float("nan")),
        (("cartesian", "linear_velocity"), True),
        (("cartesian", "workspace", "lower"), [1.0, 1.0, 1.0]),
        (("gripper", "min_opening"), 0.09),
        (("cameras",), {}),
        (("urdf",), "urdf/none.urdf"),
        (("action", "horizon"), 0),
        (("action", "horizon"), 12.5),
        *((("cameras", "front", line), 96.5) for line in ("width", "height", "policy_width", "policy_height")),
    ],
)
def test_a_wrong_line_is_refused(path, value):
    with pytest.raises(ContractError):
        parse(changed(path, value))


def numbers(values, path=()):
    """Every number of the contract: where it stands, lists of them included."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if isinstance(value, (dict, list)):
            yield from numbers(value, (*path, key))
        elif isinstance(value, (int, float)):
            yield (*path, key)


@pytest.mark.parametrize("path", list(numbers(SHIPPED)), ids=lambda path: ".".join(map(str, path)))
def test_no_number_may_be_anything_but_finite(path):
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ContractError):
            parse(changed(path, value))


@pytest.mark.parametrize("frame", ["camera_nowhere", "panda_tcp", "panda_link0 "])
def test_actions_in_another_frame_than_the_base_s_are_refused(frame):
    with pytest.raises(ContractError, match=f"action.frame.*'{frame}'.*base_frame.*'panda_link0'"):
        parse(changed(("action", "frame"), frame))


@pytest.mark.parametrize("text", ["", "- a list", "a: [", "42"])
def test_what_is_no_contract_at_all_is_refused(text):
    with pytest.raises(ContractError):
        parse_contract(text)


def test_a_robot_or_a_camera_that_is_not_there_is_named():
    with pytest.raises(ContractError, match="robbie"):
        load_contract("robbie")
    with pytest.raises(ContractError, match="wrist"):
        parse(SHIPPED).camera("back")


def test_cameras_have_strict_limits_of_health_unless_the_contract_says_otherwise():
    health = {"max_bright_fraction": 1.0, "frozen_after": 5, "expects_motion": False}
    contract = parse(changed(("cameras", "front", "health"), health))
    assert contract.camera("wrist").health == CameraHealthLimits()
    expected = CameraHealthLimits(max_bright_fraction=1.0, frozen_after=5, expects_motion=False)
    assert contract.camera("front").health == expected


@pytest.mark.parametrize(
    "health",
    [
        {"color": 1.0},
        {"max_dark_fraction": 1.1},
        {"max_dark_fraction": -0.1},
        {"max_bright_fraction": float("nan")},
        {"min_contrast": "low"},
        {"max_noise": 0.0},
        {"frozen_travel": 0.0},
        {"frozen_after": 2.5},
        {"frozen_after": 0},
        {"min_changed_fraction": None},
        {"expects_motion": 1},
        [1.0],
    ],
)
def test_limits_of_health_that_make_no_sense_are_refused(health):
    with pytest.raises(ContractError, match=r"cameras\.front\.health"):
        parse(changed(("cameras", "front", "health"), health))


def test_the_template_names_the_defaults_of_health():
    text = load_contract("template").text.replace("    # health:", "    health:").replace("    #   ", "      ")
    assert parse_contract(text).camera("front").health == CameraHealthLimits()
    lines = re.findall(r"^      [a-z_]+: ", text[text.index("    health:") :], re.M)
    assert len(lines) == len(fields(CameraHealthLimits))


def test_a_camera_without_calibration_needs_no_topic_for_it():
    contract = parse(changed(("cameras", "front", "info_topic"), None))
    assert contract.camera("front").info_topic == ""
    assert contract.camera("wrist").info_topic in robot_topics(contract)
    assert all(robot_topics(contract))
    assert "<topic />" not in policy(contract)
    with pytest.raises(ContractError, match="info_topic"):
        parse(changed(("cameras", "front", "info_topic"), ""))


@pytest.mark.parametrize(
    ("topic", "line", "transport"),
    [
        ("/camera/image_raw", None, "raw"),
        ("/camera/image_raw/compressed", None, "compressed"),
        ("/camera/jpeg", "compressed", "compressed"),
        ("/camera/compressed", "raw", "raw"),
    ],
)
def test_the_name_of_the_topic_says_how_images_travel_unless_the_contract_does(topic, line, transport):
    values = changed(("cameras", "front", "topic"), topic)
    if line is not None:
        values["cameras"]["front"]["transport"] = line
    camera = parse(values).camera("front")
    assert (camera.transport, camera.is_compressed) == (transport, transport == "compressed")
    assert parse(values).camera("wrist").transport == "raw"


@pytest.mark.parametrize(
    ("line", "value", "says"),
    [
        ("topic", "/camera/depth/compressedDepth", "holds depth, not images of a camera"),
        ("topic", "/camera/image_raw/theora", "a stream that is not decoded here"),
        ("transport", "zstd", r"expected one of \['raw', 'compressed'\]"),
        ("encoding", "32FC1", "expected one of"),
        ("encoding", "RGB8", "expected one of"),
        ("pose", {"parent": "panda_hand", "xyz": [0, 0, 0]}, "rpy"),
        ("pose", {"parent": "panda_hand", "xyz": [0, 0], "rpy": [0, 0, 0]}, "xyz"),
        ("pose", {"parent": "panda_hand", "xyz": [0, 0, float("nan")], "rpy": [0, 0, 0]}, "xyz"),
    ],
)
def test_lines_of_a_camera_that_make_no_sense_are_refused(line, value, says):
    with pytest.raises(ContractError, match=rf"cameras\.front\.{line}.*{says}"):
        parse(changed(("cameras", "front", line), value))


def test_a_compressed_camera_says_its_encoding_itself():
    values = changed(("cameras", "front", "topic"), "/camera/compressed")
    values["cameras"]["front"]["encoding"] = "bgr8"
    with pytest.raises(ContractError, match="got 'bgr8' for a compressed topic"):
        parse(values)
    values["cameras"]["front"]["encoding"] = "mono16"
    assert parse(values).camera("front").encoding == "mono16"
