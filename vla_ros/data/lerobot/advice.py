"""Suggests a table entry for a data set that does not declare its actions, filled in as far as known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vla_ros.data.lerobot.layout import IMAGE_PREFIX
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES

_ROTATIONS = {
    3: "none",
    4: "none",
    6: "rotation_vector",
    7: "rotation_vector",
    8: "quaternion",
    9: "six_d",
    10: "six_d",
}
_JOINT = re.compile(r"joint|motor|shoulder|elbow|waist|forearm|wrist_(?:roll|flex|pitch|yaw)|\.pos$|_pos$|^j\d+$")
_GRIPPER = re.compile(r"gripper|finger|jaw")


def are_joint_names(names: Sequence[str]) -> bool:
    """Return whether these column names are joint positions, as of an SO-101 or ALOHA."""
    others = [name.lower() for name in names if not _GRIPPER.search(name.lower())]
    return bool(others) and all(_JOINT.search(name) for name in others)


def joint_groups(names: Sequence[str]) -> list[str]:
    """Return the groups of a joint-space convention, as YAML; an arm ends at its gripper or at a new prefix."""
    arms: list[tuple[str, int, bool]] = []
    for name in (name.lower() for name in names):
        side = next((side for side in ("left", "right") if name.startswith(side)), "arm")
        if not arms or arms[-1][2] or arms[-1][0] != side:
            arms.append((side, 0, False))
        is_gripper = bool(_GRIPPER.search(name))
        arms[-1] = (side, arms[-1][1] + (not is_gripper), is_gripper)
    several = len({side for side, _, _ in arms}) < len(arms)
    lines = []
    for number, (side, joints, gripper) in enumerate(arms, start=1):
        arm = f"arm_{number}" if several else side
        lines.append(
            f"      - {{group: {arm}/joint_position, joints: {joints}, unit: <si: rad | degrees | percent, with low "
            "and high in rad>}"
        )
        if gripper:
            lines.append(f"      - {{group: {arm}/gripper, gripper: <open_is_hundred | open_is_one | closed_is_one>}}")
    return lines


def suggest_table_entry(
    root: Path, info: Mapping[str, Any], cameras: Sequence[str], names_of_action: Sequence[str], measured: Sequence[str]
) -> str:
    """Return the YAML table entry for a data set; values that only its author knows are in angle brackets.

    Args:
        root: Folder of the data set.
        info: Content of its `info.json`.
        cameras: Names of its cameras.
        names_of_action: Names of the action columns.
        measured: Names of its measurements.
    """
    of_joints = are_joint_names(names_of_action)
    known = set(POSE_NAMES) <= set(measured) or of_joints
    names = list(measured) if known else [f"<{name}, or one of {[*POSE_NAMES, GRIPPER_NAME]}>" for name in measured]
    lines = ["- format: lerobot", f"  path: {root}", "  weight: 1", "  convention:"]
    if of_joints:
        lines += [f"    rate_hz: {float(info['fps'])}", "    groups:", *joint_groups(names_of_action)]
    else:
        lines += [*_tool_lines(len(names_of_action)), f"    rate_hz: {float(info['fps'])}"]
        lines.append("  max_opening: <m between the fingers when open, or leave this line out>")
    if measured and not known:
        lines += ["  proprioception_names:", *(f"    - {name!r}" for name in names)]
    if cameras:
        renamed = ", ".join(f"{camera.removeprefix(IMAGE_PREFIX)}: <camera of the robot>" for camera in cameras)
        lines.append(f"  rename_cameras: {{{renamed}}}")
    return "\n".join(lines)


def _tool_lines(width: int) -> list[str]:
    rotation = _ROTATIONS.get(width, "<none | rotation_vector | quaternion | six_d>")
    gripper = "none" if width in (3, 6, 9) else "<open_is_one | closed_is_one | opening>"
    return [
        "    frame: <base_frame of the robot>",
        "    reference: <absolute | relative | delta>",
        f"    rotation: {rotation}",
        f"    gripper: {gripper}",
    ]
