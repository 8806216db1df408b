"""Tasks of the cell: the sentence that sets one, and the judge that says whether it is done.

The judge reads the physics, never what a policy claims.
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
"""Ways to ask for an object; the first is the canonical one."""

LIFT_HEIGHT = 0.08
"""How far above its resting place the object must be carried to count as picked up, m."""


def pick_instruction(name: str, template: int = 0) -> str:
    """Return the sentence that asks for the object called `name`."""
    return PICK_TEMPLATES[template].format(name)


def named_object(instruction: str, objects: Sequence[SceneObject]) -> SceneObject:
    """Return the object that the sentence names.

    Raises:
        InstructionError: when it names none of the objects on the table, or not exactly one.
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
    """Judge "pick up": `lift` is how far the target is above its resting place, m; `grasped` what both fingers hold."""
    held = grasped == target.name
    success = held and lift >= LIFT_HEIGHT
    progress = (0.5 + 0.5 * min(max(lift / LIFT_HEIGHT, 0.0), 1.0)) if held else 0.0
    doing = f"holds the {grasped}" if grasped else "holds nothing"
    return TaskStatus(success, progress, grasped, f"{doing}; the {target.name} is {100 * lift:.1f} cm up")
