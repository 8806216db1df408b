"""The judge reads the physics and the sentence, and nothing else."""

from __future__ import annotations

import pytest

from vla_ros.envs.tabletop.objects import SceneObject
from vla_ros.envs.tabletop.tasks import LIFT_HEIGHT, PICK_TEMPLATES, judge_pick, named_object, pick_instruction
from vla_ros.errors import InstructionError

RED_CUBE = SceneObject("red", "cube", (0.5, 0.0), 0.0)
RED_BALL = SceneObject("red", "ball", (0.5, 0.15), 0.0)
BLUE_CUBE = SceneObject("blue", "cube", (0.5, -0.15), 0.0)
TABLE = (RED_CUBE, RED_BALL, BLUE_CUBE)


@pytest.mark.parametrize("template", range(len(PICK_TEMPLATES)))
@pytest.mark.parametrize("item", TABLE)
def test_every_template_names_its_object(template: int, item: SceneObject) -> None:
    assert named_object(pick_instruction(item.name, template), TABLE) is item


def test_what_is_not_there_or_ambiguous_is_refused() -> None:
    with pytest.raises(InstructionError, match="names 0 objects"):
        named_object("pick up the green cube", TABLE)
    with pytest.raises(InstructionError, match="names 2 objects"):
        named_object("pick up the cube", TABLE)
    with pytest.raises(InstructionError, match="red cube, red ball, blue cube"):
        named_object("dance", TABLE)


def test_success_needs_the_named_object_held_and_high() -> None:
    assert judge_pick(RED_CUBE, LIFT_HEIGHT, "red cube").success
    assert not judge_pick(RED_CUBE, LIFT_HEIGHT - 1e-6, "red cube").success
    assert not judge_pick(RED_CUBE, LIFT_HEIGHT, "").success  # thrown, not held
    assert not judge_pick(RED_CUBE, LIFT_HEIGHT, "blue cube").success
