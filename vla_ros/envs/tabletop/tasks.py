"""Pick tasks of the workcell: their instructions, and their success checker.

The success checker reads the physics, never a policy's claims.
"""

from __future__ import annotations

from collections.abc import Sequence

from vla_ros.envs.env import TaskStatus
from vla_ros.envs.tabletop.objects import COLOURS, SHAPES, SceneObject
from vla_ros.errors import InstructionError

PICK_TEMPLATES = (
    "pick up the {}",
    "pick the {}",
    "grab the {}",
    "grasp the {}",
    "take the {}",
    "lift the {}",
    "lift up the {}",
    "get the {}",
)
"""Phrasings of a pick instruction; the first is the canonical one."""

LIFT_HEIGHT = 0.08
"""Smallest height above its resting place at which the object counts as picked up, m."""


def pick_instruction(name: str, template: int = 0) -> str:
    """Return the instruction to pick up the object called `name`."""
    return PICK_TEMPLATES[template].format(name)


def named_object(instruction: str, objects: Sequence[SceneObject]) -> SceneObject:
    """Return the object that the instruction names.

    Raises:
        InstructionError: when it names none of the objects on the table, or more than one.
    """
    words = instruction.lower().replace(".", " ").replace(",", " ").split()
    colours = [word for word in words if word in COLOURS]
    shapes = [word for word in words if word in SHAPES]
    fitting = [o for o in objects if (not colours or o.colour in colours) and (not shapes or o.shape in shapes)]
    if (colours or shapes) and len(fitting) == 1:
        return fitting[0]
    there = ", ".join(o.name for o in objects)
    raise InstructionError(f"'{instruction}' names {len(fitting)} objects on the table, expected one of: {there}")


def judge_pick(target: SceneObject, lift: float, grasped: str) -> TaskStatus:
    """Check "pick up": `lift` is the target's height above its resting place, m; `grasped` is held by both fingers."""
    held = grasped == target.name
    success = held and lift >= LIFT_HEIGHT
    progress = (0.5 + 0.5 * min(max(lift / LIFT_HEIGHT, 0.0), 1.0)) if held else 0.0
    doing = f"holds the {grasped}" if grasped else "holds nothing"
    return TaskStatus(success, progress, grasped, f"{doing}; the {target.name} is {100 * lift:.1f} cm up")
