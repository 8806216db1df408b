"""A policy that does not fit the robot is refused before anything moves, and every line that does not fit is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.groups import ActionGroup, Quantity
from vla_ros.actions.rotations import Rotation
from vla_ros.cli.main import main
from vla_ros.errors import CheckpointError
from vla_ros.language.tokenizer import WordTokenizer
from vla_ros.paths import share_file
from vla_ros.policies.build import load_policy
from vla_ros.policies.compatibility import Verdict, compare, latency_line
from vla_ros.policies.needs import needs_of_checkpoint, needs_of_features
from vla_ros.policies.remote.features import RemoteFeatures
from vla_ros.processing.features import CameraFeature, PolicyFeatures, tool_state
from vla_ros.processing.normalizer import Normalizer
from vla_ros.processing.processor import Processor, Statistics
from vla_ros.robot.contract import load_contract, parse_contract

CONTRACT = load_contract("panda")
TWO = load_contract("so101_pair")
SPACE = CONTRACT.action
MOTION, GRIPPER = SPACE.groups


def described(features: PolicyFeatures, contract: str = CONTRACT.text) -> dict[str, Any]:
    """The description of a checkpoint, without weights: whether it fits is known before they are read."""
    width, rows = len(features.continuous_columns), features.action.horizon
    statistics = Statistics(
        Normalizer.by_mean(np.zeros(features.state_width), np.ones(features.state_width)),
        Normalizer.by_mean(np.zeros((rows, width)), np.ones((rows, width))),
    )
    processor = Processor(features, statistics, WordTokenizer(("pick", "up", "the", "red", "cube")))
    return {
        "format": 2,
        "model": "flow",
        "model_config": {},
        "processor": processor.to_dict(),
        "contract": contract,
        "training": {},
    }


def features(**changes: Any) -> PolicyFeatures:
    cameras = tuple(CameraFeature(one.name, one.policy_height, one.policy_width) for one in CONTRACT.cameras)
    action = changes.get("action", SPACE)
    return PolicyFeatures(**{"cameras": cameras, "state": tool_state(SPACE), "action": action, "words": 8} | changes)


def with_groups(*groups: ActionGroup) -> dict[str, Any]:
    return described(features(action=replace(SPACE, groups=groups)))


def with_state(index: int, **changes: Any) -> dict[str, Any]:
    state = list(tool_state(SPACE))
    state[index] = replace(state[index], **changes)
    return described(features(state=tuple(state)))


def trained(old: str, new: str) -> dict[str, Any]:
    assert old in CONTRACT.text
    return described(features(), CONTRACT.text.replace(old, new))


def poisoned(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    values = described(features())
    change(values["processor"])
    return values


def of_joints(group: ActionGroup, count: int) -> ActionGroup:
    return ActionGroup(group.arm, Quantity.JOINT_POSITION, joints=count)


FIT = described(features())
SIX = ActionGroup("arm", Quantity.JOINT_POSITION, joints=6)
LEFT = ActionGroup("left", Quantity.GRIPPER, gripper=GripperConvention.OPENING)

# What is wrong, to the description of the policy, the robot's contract, the lines that are named, and part of the fix.
MISFITS: dict[str, tuple[dict[str, Any], str, list[str], str]] = {
    "camera that the robot has not": (
        FIT,
        CONTRACT.text.replace("  front:\n", "  top:\n"),
        ["camera front"],
        "front: {topic: to be filled in",
    ),
    "camera of another size": (
        FIT,
        CONTRACT.text.replace("policy_height: 96", "policy_height: 64", 1),
        ["cameras.front.policy_height", "camera front"],
        "front: {policy_height: 96, policy_width: 128}",
    ),
    "joints in another order": (
        trained("[panda_joint1, panda_joint2,", "[panda_joint2, panda_joint1,"),
        CONTRACT.text,
        ["joints.names"],
        "names: [panda_joint2, panda_joint1,",
    ),
    "gripper of another width": (
        trained("max_opening: 0.08", "max_opening: 0.1"),
        CONTRACT.text,
        ["gripper.max_opening"],
        "max_opening: 0.1",
    ),
    "another base frame": (
        trained("\nbase_frame: panda_link0", "\nbase_frame: world"),
        CONTRACT.text,
        ["base_frame"],
        "base_frame: world",
    ),
    "another tool frame": (
        trained("end_effector_frame: panda_tcp", "end_effector_frame: panda_hand"),
        CONTRACT.text,
        ["end_effector_frame"],
        "end_effector_frame: panda_hand",
    ),
    "state of six joints": (described(features(state=(SIX,))), CONTRACT.text, ["state arm/joint_position"], ""),
    "state in another frame": (with_state(0, frame="world"), CONTRACT.text, ["state arm/ee_pose"], ""),
    "state of two arms": (
        described(features(state=(*tool_state(SPACE), LEFT))),
        CONTRACT.text,
        ["state arms"],
        "",
    ),
    "joints for a tool": (
        with_groups(of_joints(MOTION, 7), GRIPPER),
        CONTRACT.text,
        ["action arm/joint_position"],
        "{group: arm/joint_position, joints: 7}",
    ),
    "another reference": (
        with_groups(replace(MOTION, reference="delta"), GRIPPER),
        CONTRACT.text,
        ["action arm/ee_delta reference"],
        "reference: delta",
    ),
    "another form of rotations": (
        with_groups(replace(MOTION, rotation=Rotation.SIX_D), GRIPPER),
        CONTRACT.text,
        ["action arm/ee_delta rotation"],
        "rotation: six_d",
    ),
    "gripper of the other sense": (
        with_groups(MOTION, replace(GRIPPER, gripper=GripperConvention.CLOSED_IS_ONE)),
        CONTRACT.text,
        ["action arm/gripper sense"],
        "gripper: closed_is_one",
    ),
    "no gripper": (with_groups(MOTION), CONTRACT.text, ["action gripper"], "{group: arm/ee_delta"),
    "chunks shorter than a row": (
        described(features(action=replace(SPACE, rate_hz=100.0, horizon=5))),
        CONTRACT.text,
        ["action horizon"],
        "rate_hz: 100.0",
    ),
    "no statistics": (poisoned(lambda one: one.pop("statistics")), CONTRACT.text, ["statistics"], ""),
    "statistics that are not finite": (
        poisoned(lambda one: one["statistics"]["state"]["mean"].__setitem__(0, float("nan"))),
        CONTRACT.text,
        ["statistics"],
        "",
    ),
    "statistics of a constant column": (
        poisoned(lambda one: one["statistics"]["state"]["std"].__setitem__(0, 0.0)),
        CONTRACT.text,
        ["statistics"],
        "",
    ),
}


def written(folder: Path, values: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "policy.json").write_text(json.dumps(values))
    return folder


def test_at_least_twelve_misfits_are_tried() -> None:
    assert len(MISFITS) >= 12


@pytest.mark.parametrize("case", MISFITS)
def test_misfit_is_named_and_refused_before_anything_is_loaded(case: str, tmp_path: Path) -> None:
    values, text, names, fix = MISFITS[case]
    contract = parse_contract(text)
    folder = written(tmp_path / "mine", values)
    report = compare(needs_of_checkpoint(folder), contract)
    assert [line.name for line in report.misfits] == names
    assert fix in report.fixes()
    with pytest.raises(CheckpointError) as refused:
        load_policy(str(folder), contract, "cpu")  # there are no weights: they are not looked for
    assert "does not fit robot 'panda'" in str(refused.value)
    assert all(f"{name}: trained with" in str(refused.value) for name in names)
    assert fix in str(refused.value)


def test_all_misfits_are_named_at_once(tmp_path: Path) -> None:
    other = CONTRACT.text.replace("  front:\n", "  top:\n").replace("max_opening: 0.08", "max_opening: 0.10")
    folder = written(tmp_path / "mine", with_state(0, frame="world"))
    report = compare(needs_of_checkpoint(folder), parse_contract(other))
    assert [line.name for line in report.misfits] == ["gripper.max_opening", "camera front", "state arm/ee_pose"]
    for name in ("max_opening: 0.08", "front:"):
        assert name in report.fixes()


def test_cameras_are_never_matched_by_their_order() -> None:
    """The same two sizes in the same order, and other names: nothing stands in for anything."""
    renamed = CONTRACT.text.replace("  front:\n", "  left:\n").replace("  wrist:\n", "  right:\n")
    report = compare(needs_of_checkpoint(share_file("checkpoints/pick")), parse_contract(renamed))
    assert [line.name for line in report.misfits] == ["camera front", "camera wrist"]
    swapped = (
        CONTRACT.text.replace("  front:\n", "  X:\n").replace("  wrist:\n", "  front:\n").replace("  X:", "  wrist:")
    )
    assert not compare(needs_of_checkpoint(share_file("checkpoints/pick")), parse_contract(swapped)).misfits


@pytest.mark.parametrize("name", ["pick", "tabletop"])
def test_shipped_checkpoint_fits_and_says_so(name: str) -> None:
    report = compare(needs_of_checkpoint(share_file(f"checkpoints/{name}")), CONTRACT)
    assert {line.verdict for line in report.lines} == {Verdict.FITS}
    assert report.fixes() == ""
    report.require()


def test_another_rate_and_a_longer_chunk_are_converted(tmp_path: Path) -> None:
    folder = written(tmp_path / "mine", described(features(action=replace(SPACE, rate_hz=30.0, horizon=50))))
    report = compare(needs_of_checkpoint(folder), CONTRACT)
    converted = {line.name: line.note for line in report.lines if line.verdict is Verdict.CONVERTED}
    assert converted == {"action rate_hz": "chunks are resampled", "action horizon": "later rows are left out"}
    assert not report.misfits


def test_columns_of_a_server_are_converted() -> None:
    values = yaml.safe_load(share_file("config/policies/openpi.yaml").read_text(encoding="utf-8"))
    rows = {name: values[name] for name in ("observation", "action", "robot")}
    report = compare(needs_of_features(RemoteFeatures.from_dict(rows), "openpi"), CONTRACT)
    assert not report.misfits
    converted = {line.name for line in report.lines if line.verdict is Verdict.CONVERTED}
    assert {"action arm/ee_delta reference", "action arm/gripper sense", "camera front", "camera wrist"} <= converted


@pytest.mark.parametrize(
    ("taken", "verdict", "says"),
    [
        ([0.02] * 9 + [0.03], Verdict.FITS, ""),
        ([0.2] * 10, Verdict.FITS, "chunks overlap"),
        ([0.1] * 9 + [0.5], Verdict.MISFIT, "the safety layer holds the arm"),
        ([float("nan")], Verdict.MISFIT, "the safety layer holds the arm"),
        ([], Verdict.UNKNOWN, ""),
    ],
)
def test_measured_latency_is_compared_with_what_the_robot_allows(
    taken: list[float], verdict: Verdict, says: str
) -> None:
    line = latency_line(taken, CONTRACT, longest=0.35)
    assert line.verdict is verdict
    assert says in line.note


def test_latency_beyond_the_chunk_does_not_fit() -> None:
    short = replace(CONTRACT, action=replace(SPACE, horizon=2))
    assert latency_line([0.3], short, longest=0.35).note == "a chunk has run out before the next one is there"


def report_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    code = main(["check", *words, "--json"])
    printed = capsys.readouterr().out
    return code, json.loads(printed.splitlines()[-1]), printed


def test_command_reports_line_by_line_with_the_measured_latency(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["checkpoints/pick", "--device", "cpu", "--inferences", "2"]
    code, report, printed = report_of(words, capsys)
    lines = {line["name"]: line for line in report["lines"]}
    assert "in 2 inferences on this machine" in lines["latency"]["policy"]
    assert lines["camera wrist"]["verdict"] == "fits"
    assert code == (0 if report["fits"] else 1)  # a machine may be too slow: then it says so
    assert "it fits" in printed or report["misfits"] == ["latency"]


def test_command_names_the_misfits_of_another_robot(capsys: pytest.CaptureFixture[str]) -> None:
    code, report, printed = report_of(["checkpoints/pick", "--robot", "so101"], capsys)
    assert code == 1
    assert {"joints.names", "camera front", "action arm/ee_delta"} & set(report["misfits"])
    assert "nothing moves with this policy" in printed
    assert yaml.safe_load(report["fixes"])


def test_command_compares_a_joint_policy_as_the_graph_runs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "mine", with_groups(of_joints(MOTION, 7), GRIPPER))
    code, report, printed = report_of([str(folder), "--inferences", "0"], capsys)
    assert code == 0 and report["fits"]
    assert (report["lines"][0]["name"], report["lines"][0]["verdict"]) == ("action", "converted")
    assert "policy: arm/joint_position, arm/gripper; robot: arm/ee_delta, arm/gripper" in printed


def of_two_arms(*state: ActionGroup, text: str = TWO.text) -> dict[str, Any]:
    cameras = tuple(CameraFeature(one.name, one.policy_height, one.policy_width) for one in TWO.cameras)
    return described(PolicyFeatures(cameras, state or TWO.action.groups, TWO.action, 8), text)


def test_two_arms_fit_and_each_is_compared_by_its_name(tmp_path: Path) -> None:
    needs = needs_of_checkpoint(written(tmp_path / "mine", of_two_arms()))
    assert {line.verdict for line in compare(needs, TWO).lines} == {Verdict.FITS}
    other = of_two_arms(text=TWO.text.replace("names: [left_shoulder_pan,", "names: [left_pan,"))
    report = compare(needs_of_checkpoint(written(tmp_path / "mine", other)), TWO)
    assert [line.name for line in report.misfits] == ["arms.left.joints.names"]
    names = ["left_pan", *TWO.arms[0].joints.names[1:]]
    assert yaml.safe_load(report.fixes()) == {"arms": [{"name": "left", "joints": {"names": names}}]}


def test_state_that_is_not_observed_of_two_arms_is_named(tmp_path: Path) -> None:
    state = (
        replace(LEFT, arm="third"),
        replace(TWO.action.groups[0], joints=6),
        replace(MOTION, arm="left", quantity=Quantity.EE_POSE, reference="absolute"),
    )
    report = compare(needs_of_checkpoint(written(tmp_path / "mine", of_two_arms(*state))), TWO)
    names = ["state arms", "state left/joint_position", "state left/ee_pose"]
    assert [line.name for line in report.misfits] == names


def test_command_says_what_is_no_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere"]) == 2
    assert "no checkpoint 'nowhere'" in capsys.readouterr().err
