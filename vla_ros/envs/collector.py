"""Demonstrations from the simulated cell: the expert drives, disturbed now and then, and labels every state.

Each state is labelled for every object on the table, not only for the one asked for: the same picture then comes with
different words and different actions, which is what makes a policy listen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.decoding import PoseTrajectory, decode, encode
from vla_ros.actions.rotation_vectors import slerp
from vla_ros.data.demonstrations import Episode
from vla_ros.envs.mujoco.follower import PoseFollower
from vla_ros.envs.mujoco.workcell import Cell
from vla_ros.envs.tabletop.grasping import observe, plan
from vla_ros.envs.tabletop.tasks import named_object, pick_instruction
from vla_ros.errors import SimulationError
from vla_ros.perception.geometry import resize_for_policy
from vla_ros.robot.contract import RobotContract
from vla_ros.types import FloatArray, ImageArray, Instruction, Observation

CONTROL_PERIOD = 0.01
"""How often the joint references change, s."""

Learner = Callable[[Observation], FloatArray]
"""A policy's actions (horizon, width) for an observation: DAgger lets it drive while the expert labels."""


@dataclass(frozen=True)
class CollectionOptions:
    """How episodes are made.

    Attributes:
        max_steps: Steps (of the action rate) after which an episode is given up.
        disturbance: Chance a step that a disturbance begins.
        disturbance_size: Standard deviation of the offset it adds to where the tool goes, m.
        switch: Chance that an episode asks for another object in the middle.
        learner_share: Chance that a step is driven by the learner, where there is one.
        hold_steps: Steps recorded after the task is done.
        record_learner: Record the learner's chunks (`driven`) and how far the judge sees the task (`progress`), too.
        varied_from: Tabletop scenes of this seed and later ones vary more; see `training_variation`. None: none does.
    """

    max_steps: int = 60
    disturbance: float = 0.08
    disturbance_size: float = 0.05
    switch: float = 0.15
    learner_share: float = 1.0
    hold_steps: int = 4
    record_learner: bool = False
    varied_from: int | None = None


def policy_images(cell: Cell, contract: RobotContract) -> dict[str, ImageArray]:
    """Render every camera and shrink the pictures exactly as the perception node does."""
    return {
        camera.name: resize_for_policy(cell.render(camera.name), camera.policy_height, camera.policy_width)
        for camera in contract.cameras
    }


class Collector:
    """Makes episodes in one cell; one process, one collector."""

    def __init__(self, contract: RobotContract, options: CollectionOptions, learner: Learner | None = None) -> None:
        """Build a cell of its own."""
        if options.record_learner and (learner is None or options.learner_share < 1.0):
            raise SimulationError("record_learner needs a learner that drives every step (learner_share 1)")
        self.contract, self.options, self.learner = contract, options, learner
        self.cell = self._make_cell()

    def _make_cell(self) -> Cell:
        return Cell(self.contract)

    def _begin(self) -> None:
        """Let the arm's follower start where the arm is, undisturbed."""
        self._follower = PoseFollower(self.contract, self.cell.kinematics, self.cell.state().joint_positions)
        self._disturbance = (0, np.zeros(3), 0.0)

    def collect(self, seed: int) -> Episode:
        """Play one episode; `Episode.success` says whether the object asked for last was picked up."""
        rng = np.random.default_rng([seed, 1])
        self.cell.reset(seed)
        self._begin()
        names = [item.name for item in self.cell.objects]
        asked = names.index(named_object(self.cell.instruction, self.cell.objects).name)
        switch_at = int(rng.integers(4, 18)) if rng.random() < self.options.switch else -1
        rows: list[dict[str, object]] = []
        after = 0
        for step in range(self.options.max_steps):
            if step == switch_at:
                asked = int(rng.integers(len(names)))
                self.cell.set_instruction(pick_instruction(names[asked]))
            row, plans = self._label(asked)
            rows.append(row)
            after = after + 1 if self.cell.task_status().success else 0
            if after > self.options.hold_steps:
                break
            self._execute(self._disturbed(plans[asked], rng))
            self._note_learner(row)
        arrays = self._gather(rows)
        return Episode(seed, self.cell.task_status().success, arrays | {"names": np.array(names)})

    def _note_learner(self, row: dict[str, object]) -> None:
        if self.options.record_learner:
            row["driven"], row["progress"] = self._driven.astype(np.float32), np.float32(self._progress)

    def _gather(self, rows: list[dict[str, object]]) -> dict[str, NDArray[Any]]:
        """Return the rows as arrays; where the learner is recorded, without a last row in which it did nothing."""
        if self.options.record_learner:
            rows = [row for row in rows if "driven" in row]
        return {key: np.stack([np.asarray(row[key]) for row in rows]) for key in rows[0]}

    def _label(self, asked: int) -> tuple[dict[str, object], list[PoseTrajectory]]:
        """Return one row of the episode and the expert's plan for every object."""
        state, action = self.cell.state(), self.contract.action
        gripper = self.contract.gripper
        plans = [
            plan(observe(self.cell, item), action.horizon, action.period, gripper.max_opening, gripper.velocity)
            for item in self.cell.objects
        ]
        chunks = [encode(one, action, state.end_effector, gripper.max_opening) for one in plans]
        targets = [self.cell.object_position(item) for item in self.cell.objects]
        row: dict[str, object] = {
            "position": state.end_effector.position.astype(np.float32),
            "quaternion": state.end_effector.quaternion.astype(np.float32),
            "opening": np.float32(state.gripper_opening),
            "actions": np.stack(chunks).astype(np.float32),
            "target": np.stack(targets).astype(np.float32),
            "asked": asked,
            "instruction": self.cell.instruction,
        }
        self._images = policy_images(self.cell, self.contract)
        for camera in self.contract.cameras:
            row[f"image_{camera.name}"] = self._images[camera.name]
            row[f"pixel_{camera.name}"] = np.array(
                [self._pixel(camera.name, (camera.width, camera.height), target) for target in targets], np.float32
            )
        return row, plans

    def _pixel(self, camera: str, size: tuple[int, int], target: FloatArray) -> tuple[float, float]:
        pixel = self.cell.project(camera, target)
        if pixel is None or not (0.0 <= pixel[0] < size[0] and 0.0 <= pixel[1] < size[1]):
            return np.nan, np.nan
        return pixel[0] / size[0], pixel[1] / size[1]

    def _chosen(self, expert: PoseTrajectory, rng: np.random.Generator) -> PoseTrajectory:
        if self.learner is None or rng.random() >= self.options.learner_share:
            return expert
        state = self.cell.state()
        observation = Observation(self._images, state, Instruction(self.cell.instruction), state.stamp)
        actions = self.learner(observation)
        self._driven, self._progress = actions, self.cell.progress()
        return decode(actions, self.contract.action, state.end_effector, self.contract.gripper.max_opening)

    def _disturbed(self, expert: PoseTrajectory, rng: np.random.Generator) -> PoseTrajectory:
        """Return what is carried out: the expert's or the learner's plan, now and then disturbed for a few steps."""
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
        """Carry the arm along the first row for one action period."""
        start = self.cell.kinematics.forward(self._follower.q)
        count = round(self.contract.action.period / CONTROL_PERIOD)
        opening = self.contract.gripper.max_opening if trajectory.openings is None else trajectory.openings[0]
        for tick in range(1, count + 1):
            share = tick / count
            position = start.position + share * (trajectory.positions[0] - start.position)
            q = self._follower.step(position, slerp(start.quaternion, trajectory.quaternions[0], share), CONTROL_PERIOD)
            self.cell.command(q, float(np.clip(opening, 0.0, self.contract.gripper.max_opening)))
            self.cell.step(CONTROL_PERIOD)
