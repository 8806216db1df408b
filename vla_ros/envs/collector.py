"""Demonstrations from simulation: the expert drives, with random disturbances, and labels every state.

Each state is labeled for several instructions, not only for the current one: the same image then comes with different
instructions and different actions, which is what makes a policy attend to the instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.decoding import PoseTrajectory, decode, encode
from vla_ros.actions.rotation_vectors import matrix_from_rotation_vector, slerp
from vla_ros.actions.rotations import matrix_from_quaternion
from vla_ros.data.episodes.demonstrations import Episode
from vla_ros.envs.mujoco.follower import PoseFollower
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.envs.tabletop.expert import observe_commands, plan_command
from vla_ros.envs.tabletop.grasping import TOOL_DOWN
from vla_ros.envs.tabletop.perturbations import Perturbation, training_variation
from vla_ros.errors import SimulationError
from vla_ros.language.commands import Command
from vla_ros.language.phrasing import say
from vla_ros.robot.inverse_kinematics import nearest_posture
from vla_ros.types import FloatArray, Observation

CONTROL_PERIOD = 0.01
"""Time between updates of the joint references, s."""

LOOKS = 5
"""Number of steps after which light, cameras and table of a varied scene are randomized again."""

VIEW_SPREAD, VIEW_HEIGHT, VIEW_TILT = 0.04, 0.35, 0.12
"""Hand pose of a view relative to an object: standard deviation of its horizontal offset, m; maximum height, m; maximum
tilt about each axis, rad."""

Learner = Callable[[Observation], FloatArray]
"""Function from observation to a policy's actions (horizon, width): in DAgger it drives while the expert labels."""


@dataclass(frozen=True)
class CollectionOptions:
    """Options of the collection of episodes.

    Attributes:
        max_steps: Number of steps (at the action rate) after which an episode is ended.
        disturbance: Probability per step that a disturbance begins.
        disturbance_size: Standard deviation of the offset that it adds to the tool's target, m.
        switch: Probability that an episode switches to another instruction midway.
        learner_fraction: Probability that a step is driven by the learner, if there is one.
        hold_steps: Number of steps recorded after success.
        record_learner: Also record the learner's chunks (`driven`) and the progress of the task (`progress`).
        varied_from: First seed whose tabletop scenes vary more; see `training_variation`. None: none does.
        views: Number of steps of an episode without motion: before each, the arm is placed somewhere over the table and
            a varied scene changes its appearance; the state is labeled as usual. 0: episodes are played.
    """

    max_steps: int = 60
    disturbance: float = 0.08
    disturbance_size: float = 0.05
    switch: float = 0.15
    learner_fraction: float = 1.0
    hold_steps: int = 4
    record_learner: bool = False
    varied_from: int | None = None
    views: int = 0


class Collector:
    """Collects episodes in one environment; one collector per process."""

    def __init__(self, env: TabletopEnv, options: CollectionOptions, learner: Learner | None = None) -> None:
        """Collect in `env`.

        Raises:
            SimulationError: when the options do not fit the environment or the learner.
        """
        if options.record_learner and (learner is None or options.learner_fraction < 1.0):
            raise SimulationError("record_learner needs a learner that drives every step (learner_fraction 1)")
        if options.varied_from is not None and not env.config.furnished:
            raise SimulationError("varied_from needs the tabletop: scenes of 'pick' do not vary more; leave it out")
        self.env, self.contract, self.options, self.learner = env, env.contract, options, learner

    def _begin(self) -> None:
        """Start the follower at the arm's current posture, without disturbance."""
        self._follower = PoseFollower(self.contract, self.env.kinematics, self.env.state().joint_positions)
        self._disturbance = (0, np.zeros(3), 0.0)

    def collect(self, seed: int) -> Episode:
        """Collect one episode; `Episode.success` is that of its last instruction."""
        rng = np.random.default_rng([seed, 1])
        varies = self.options.varied_from is not None and seed >= self.options.varied_from
        self.env.perturbation = training_variation(np.random.default_rng([seed, 2])) if varies else Perturbation()
        self.env.reset(seed)
        looks = np.random.default_rng([seed, 3]) if varies else None
        commands = self.env.config.commands(self.env.scene, rng)
        rows = self._view(rng, commands, looks) if self.options.views else self._play(rng, commands, looks)
        return Episode(seed, self.env.success(), self._gather(rows) | self._names(commands))

    def _play(
        self, rng: np.random.Generator, commands: list[Command], looks: np.random.Generator | None
    ) -> list[dict[str, object]]:
        self._begin()
        env, options = self.env, self.options
        asked = commands.index(env.command_wanted)
        switch_at = int(rng.integers(*env.config.switch)) if rng.random() < options.switch else -1
        rows: list[dict[str, object]] = []
        after = 0
        for step in range(options.max_steps):
            if step == switch_at:
                asked = int(rng.integers(len(commands)))
                env.set_instruction(say(commands[asked]))
            if looks is not None and step and step % LOOKS == 0:
                env.look_otherwise(looks, training_variation(looks))
            row, plan = self._label(commands, asked)
            rows.append(row)
            after = after + 1 if env.success() else 0
            if after > options.hold_steps:
                break
            self._execute(self._disturbed(plan, rng))
            self._note_learner(row)
        return rows

    def _view(
        self, rng: np.random.Generator, commands: list[Command], looks: np.random.Generator | None
    ) -> list[dict[str, object]]:
        """Label the scene with the arm in `views` different postures."""
        rows = []
        for step in range(self.options.views):
            if looks is not None and step:
                self.env.look_otherwise(looks, training_variation(looks))
            self._scatter_arm(rng)
            rows.append(self._label(commands, int(rng.integers(len(commands))))[0])
        return rows

    def _scatter_arm(self, rng: np.random.Generator) -> None:
        """Place the hand near a random object, at its height or above; nothing else moves."""
        env, things = self.env, self.env.scene.things
        place = env.thing_position(things[int(rng.integers(len(things)))].pair)
        place += rng.normal(0.0, VIEW_SPREAD, 3) * (1.0, 1.0, 0.0)
        place[2] += VIEW_HEIGHT * rng.uniform() * rng.uniform()
        box = self.contract.cartesian
        place = np.clip(place, box.workspace_lower + np.array([0.0, 0.0, 0.008]), box.workspace_upper)
        tilt = matrix_from_rotation_vector(rng.uniform(-VIEW_TILT, VIEW_TILT, 3))
        down = matrix_from_quaternion(TOOL_DOWN) @ tilt
        q = nearest_posture(env.kinematics, place, down, self.contract.joints.home)
        env.place_arm(q, float(rng.uniform(0.0, self.contract.gripper.max_opening)))

    def _names(self, commands: list[Command]) -> dict[str, NDArray[Any]]:
        """Return the names of the labeled commands, or those of the objects alone if "pick" is the only task."""
        if not self.env.config.furnished:
            return {"names": np.array([command.name for command in commands])}
        return {
            "names": np.array([command.key for command in commands]),
            "things": np.array([item.name for item in self.env.scene.things]),
        }

    def _note_learner(self, row: dict[str, object]) -> None:
        if self.options.record_learner:
            row["driven"], row["progress"] = self._driven.astype(np.float32), np.float32(self._progress)

    def _gather(self, rows: list[dict[str, object]]) -> dict[str, NDArray[Any]]:
        """Stack the rows into arrays; with `record_learner`, omit a last row in which the learner did not act."""
        if self.options.record_learner:
            rows = [row for row in rows if "driven" in row]
        return {key: np.stack([np.asarray(row[key]) for row in rows]) for key in rows[0]}

    def _label(self, commands: list[Command], asked: int) -> tuple[dict[str, object], PoseTrajectory]:
        """Return one row of the episode, and the expert's plan for the current command."""
        self._observation = self.env.observe()
        state, action, gripper = self._observation.state, self.contract.action, self.contract.gripper
        plans = [
            plan_command(one, action.horizon, action.period, gripper.max_opening, gripper.velocity)
            for one in observe_commands(self.env, commands)
        ]
        chunks = [encode(plan, action, state.end_effector, gripper.max_opening) for plan in plans]
        row: dict[str, object] = {
            "position": state.end_effector.position.astype(np.float32),
            "quaternion": state.end_effector.quaternion.astype(np.float32),
            "opening": np.float32(state.gripper_opening),
            "actions": np.stack(chunks).astype(np.float32),
            "asked": asked,
            "instruction": self.env.instruction,
        }
        for name, image in self._observation.images.items():
            row[f"image_{name}"] = image
        row |= self._places("target", "pixel", [command.thing for command in commands])
        if self.env.config.furnished:
            row |= self._places("goal", "pixel_goal", [command.goal for command in commands])
        return row, plans[asked]

    def _places(self, name: str, pixel: str, pairs: Sequence[tuple[str, str] | None]) -> dict[str, object]:
        """Return positions of objects, (k, 3) m, and in each image, (k, 2) fractions; 0 and NaN where there is none."""
        places = [np.zeros(3) if pair is None else self.env.thing_position(pair) for pair in pairs]
        row: dict[str, object] = {name: np.stack(places).astype(np.float32)}
        for camera in self.contract.cameras:
            size = (camera.width, camera.height)
            row[f"{pixel}_{camera.name}"] = np.array(
                [
                    (np.nan, np.nan) if pair is None else self._pixel(camera.name, size, place)
                    for pair, place in zip(pairs, places, strict=True)
                ],
                np.float32,
            )
        return row

    def _pixel(self, camera: str, size: tuple[int, int], target: FloatArray) -> tuple[float, float]:
        pixel = self.env.project(camera, target)
        if pixel is None or not (0.0 <= pixel[0] < size[0] and 0.0 <= pixel[1] < size[1]):
            return np.nan, np.nan
        return pixel[0] / size[0], pixel[1] / size[1]

    def _chosen(self, expert: PoseTrajectory, rng: np.random.Generator) -> PoseTrajectory:
        if self.learner is None or rng.random() >= self.options.learner_fraction:
            return expert
        start = self._observation.state.end_effector
        actions = self.learner(self._observation)
        self._driven, self._progress = actions, self.env.progress()
        return decode(actions, self.contract.action, start, self.contract.gripper.max_opening)

    def _disturbed(self, expert: PoseTrajectory, rng: np.random.Generator) -> PoseTrajectory:
        """Return the plan to execute: the expert's or the learner's, at times disturbed for a few steps."""
        left, offset, forced = self._disturbance
        if left == 0 and rng.random() < self.options.disturbance:
            left = int(rng.integers(2, 6))
            offset = rng.normal(0.0, self.options.disturbance_size, 3) * (1.0, 1.0, 0.6)
            forced = float(rng.choice([-1.0, -1.0, 0.0, 1.0]))
        trajectory = self._chosen(expert, rng)
        if left == 0:
            return trajectory
        self._disturbance = (left - 1, offset, forced)
        positions = trajectory.positions + offset * 0.5
        box = self.contract.cartesian
        positions = np.clip(positions, box.workspace_lower + np.array([0.0, 0.0, 0.008]), box.workspace_upper)
        openings = trajectory.openings
        if openings is not None and forced > 0.0:
            openings = self.contract.gripper.max_opening - openings
        return PoseTrajectory(positions, trajectory.quaternions, openings)

    def _execute(self, trajectory: PoseTrajectory) -> None:
        """Move the arm to the first row's target within one action period."""
        start = self.env.kinematics.forward(self._follower.q)
        count = round(self.contract.action.period / CONTROL_PERIOD)
        opening = self.contract.gripper.max_opening if trajectory.openings is None else trajectory.openings[0]
        for tick in range(1, count + 1):
            fraction = tick / count
            position = start.position + fraction * (trajectory.positions[0] - start.position)
            q = self._follower.step(
                position, slerp(start.quaternion, trajectory.quaternions[0], fraction), CONTROL_PERIOD
            )
            self.env.command(q, float(np.clip(opening, 0.0, self.contract.gripper.max_opening)))
            self.env.step(CONTROL_PERIOD)
