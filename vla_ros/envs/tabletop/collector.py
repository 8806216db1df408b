"""Demonstrations of the tabletop tasks: one command is pursued, several are labelled in every state.

The commands of an episode are about the same things on the same table, so that the same picture comes with different
words and different actions: pick it, put it there, push it, take the other one.
"""

from __future__ import annotations

import numpy as np

from vla_ros.actions.decoding import PoseTrajectory, encode
from vla_ros.data.demonstrations import Episode
from vla_ros.envs.collector import Collector, policy_images
from vla_ros.envs.tabletop.env import TabletopCell
from vla_ros.envs.tabletop.expert import observe_commands, plan_command
from vla_ros.envs.tabletop.perturbations import Perturbation, training_variation
from vla_ros.envs.tabletop.scene import FLAT, RECEPTACLES, STACKABLE, TabletopScene
from vla_ros.errors import SimulationError
from vla_ros.language.commands import Act, Command
from vla_ros.language.lexicon import DIRECTIONS
from vla_ros.language.phrasing import say

LABELS = 8
"""Commands labelled in every state."""

LOOKS = 5
"""Steps after which light, cameras and table of a varied scene are randomized again."""


class TabletopCollector(Collector):
    """Makes episodes in one cell; one process, one collector."""

    cell: TabletopCell

    def _make_cell(self) -> TabletopCell:
        return TabletopCell(self.contract)

    def collect(self, seed: int) -> Episode:
        """Play one episode; `Episode.success` says whether what was asked for last was done."""
        rng = np.random.default_rng([seed, 1])
        varies = self.options.varied_from is not None and seed >= self.options.varied_from
        self.cell.perturbation = training_variation(np.random.default_rng([seed, 2])) if varies else Perturbation()
        self.cell.reset(seed)
        looks = np.random.default_rng([seed, 3]) if varies else None
        return self._play(seed, rng, choose_commands(self.cell.scene, rng), looks)

    def _play(
        self, seed: int, rng: np.random.Generator, commands: list[Command], looks: np.random.Generator | None
    ) -> Episode:
        self._begin()
        asked = 0
        switch_at = int(rng.integers(6, 40)) if rng.random() < self.options.switch else -1
        rows: list[dict[str, object]] = []
        after = 0
        for step in range(self.options.max_steps):
            if step == switch_at:
                asked = int(rng.integers(len(commands)))
                self.cell.set_instruction(say(commands[asked]))
            if looks is not None and step and step % LOOKS == 0:
                self.cell.look_otherwise(looks, training_variation(looks))
            row, plan = self._label_commands(commands, asked)
            rows.append(row)
            after = after + 1 if self.cell.task_status().success else 0
            if after > self.options.hold_steps:
                break
            self._execute(self._disturbed(plan, rng))
            self._note_learner(row)
        arrays = self._gather(rows)
        extra = {
            "names": np.array([command.key for command in commands]),
            "things": np.array([item.name for item in self.cell.scene.things]),
        }
        return Episode(seed, self.cell.task_status().success, arrays | extra)

    def _label_commands(self, commands: list[Command], asked: int) -> tuple[dict[str, object], PoseTrajectory]:
        """Return one row of the episode and the expert's plan for the command that is pursued."""
        state, action, gripper = self.cell.state(), self.contract.action, self.contract.gripper
        plans = [
            plan_command(one, action.horizon, action.period, gripper.max_opening, gripper.velocity)
            for one in observe_commands(self.cell, commands)
        ]
        targets = [self.cell.thing_position(one.thing) for one in commands]
        goals = [self.cell.thing_position(one.goal) if one.goal else np.zeros(3) for one in commands]
        row: dict[str, object] = {
            "position": state.end_effector.position.astype(np.float32),
            "quaternion": state.end_effector.quaternion.astype(np.float32),
            "opening": np.float32(state.gripper_opening),
            "actions": np.stack([encode(p, action, state.end_effector, gripper.max_opening) for p in plans]).astype(
                "f4"
            ),
            "target": np.stack(targets).astype(np.float32),
            "goal": np.stack(goals).astype(np.float32),
            "asked": asked,
            "instruction": self.cell.instruction,
        }
        self._images = policy_images(self.cell, self.contract)
        for camera in self.contract.cameras:
            size = (camera.width, camera.height)
            row[f"image_{camera.name}"] = self._images[camera.name]
            row[f"pixel_{camera.name}"] = np.array([self._pixel(camera.name, size, t) for t in targets], "f4")
            row[f"pixel_goal_{camera.name}"] = np.array(
                [self._pixel(camera.name, size, g) if c.goal else (np.nan, np.nan)
                 for c, g in zip(commands, goals, strict=True)], "f4",
            )  # fmt: skip
        return row, plans[asked]


def choose_commands(scene: TabletopScene, rng: np.random.Generator, count: int = LABELS) -> list[Command]:
    """Return `count` different commands about a scene: the scene's own, then others, those about its thing first."""
    every = possible_commands(scene)
    if scene.command not in every:
        raise SimulationError(f"the scene's own command {scene.command} is not possible in it")
    others = [command for command in every if command != scene.command]
    same = [c for c in others if c.thing == scene.command.thing]
    rest = [c for c in others if c.thing != scene.command.thing]
    mixed = [same[i] for i in rng.permutation(len(same))][: count // 2 - 1] + [
        rest[i] for i in rng.permutation(len(rest))
    ]
    spare = [c for c in others if c not in mixed]
    return [scene.command, *mixed, *(spare[i] for i in rng.permutation(len(spare)))][:count]


def possible_commands(scene: TabletopScene) -> list[Command]:
    """Return everything that can be asked for in a scene."""
    commands = []
    for item in scene.objects:
        thing = (item.colour, item.shape)
        commands.append(Command(Act.PICK, thing))
        commands += [Command(Act.PUSH, thing, None, direction) for direction in DIRECTIONS]
        for other in scene.things:
            goal = (other.colour, other.shape)
            if other.shape in RECEPTACLES:
                commands.append(Command(Act.PLACE, thing, goal))
            elif goal != thing and other.shape in FLAT and item.shape in STACKABLE:
                commands.append(Command(Act.STACK, thing, goal))
    return commands
