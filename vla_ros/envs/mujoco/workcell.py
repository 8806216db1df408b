"""Simulated workcell: arm, table and cameras in MuJoCo, without objects or tasks.

Use it from one thread only: MuJoCo's data and the OpenGL context belong to the thread that created them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vla_ros.envs.mujoco.rendering import CameraRenderer  # isort: skip  (sets the OpenGL back end before mujoco is imported)

import mujoco
import numpy as np

from vla_ros.envs.mujoco.fingers import finger_bodies
from vla_ros.envs.mujoco.layout import plan_layout
from vla_ros.envs.mujoco.model import TIMESTEP, build_model
from vla_ros.errors import SimulationError
from vla_ros.perception.geometry import resize_for_policy
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray, ImageArray, RobotState

SETTLE_TIME = 0.3
"""Time in which objects come to rest before a scene begins, s."""


class Workcell:
    """Robot at a table, with the interface of the real one: joint references in, state and images out."""

    def __init__(self, contract: RobotContract, *, camera_sizes: Mapping[str, tuple[int, int]] | None = None) -> None:
        """Build a robot's workcell; `camera_sizes` overrides the contract's (height, width) px by camera."""
        self.contract = contract
        self.kinematics = Kinematics(contract)
        self.layout = plan_layout(contract, self.kinematics)
        self.model = self._build()
        self.data = mujoco.MjData(self.model)
        self._sizes = {c.name: (c.height, c.width) for c in contract.cameras} | dict(camera_sizes or {})
        self._renderers: dict[tuple[int, int], CameraRenderer] = {}
        self._arm = [self.model.joint(name).qposadr[0] for name in contract.joints.names]
        self._arm_dof = [self.model.joint(name).dofadr[0] for name in contract.joints.names]
        self._arm_servo = [self.model.actuator(name).id for name in contract.joints.names]
        self._fingers = [self.model.joint(name).qposadr[0] for name in contract.finger_names]
        self._finger_servo = [self.model.actuator(name).id for name in contract.finger_names]
        fingers = finger_bodies(self.model, contract)
        self._finger_of_geom = {
            geom: fingers[body] for geom, body in enumerate(self.model.geom_bodyid.tolist()) if body in fingers
        }
        self._efforts = np.zeros(len(self._arm))
        self._steps = 0

    def _build(self) -> mujoco.MjModel:
        return build_model(self.contract, {}, 0, layout=self.layout)

    @property
    def time(self) -> float:
        """Simulation time, s: a whole number of physics steps; a scene begins at SETTLE_TIME, never at zero."""
        return self._steps * TIMESTEP

    def settle(self, rng: np.random.Generator, spread: float) -> None:
        """Set each arm joint to within `spread` rad of home, open every gripper, and let objects come to rest."""
        joints = self.contract.joints
        start = joints.home + rng.uniform(-spread, spread, joints.count)
        self.data.qpos[self._arm] = np.clip(start, joints.lower, joints.upper)
        self.command(self.data.qpos[self._arm], [arm.gripper.max_opening for arm in self.contract.arms])
        self.data.qpos[self._fingers] = self.contract.fingers_open
        self._efforts = np.zeros(len(self._arm))
        mujoco.mj_forward(self.model, self.data)
        self._steps = 0
        self.step(SETTLE_TIME)

    def place_arm(self, joint_positions: FloatArray, gripper_opening: float | Sequence[float]) -> None:
        """Set references and posture of the arm, (n,) rad and m, at rest; nothing else moves, and no time passes."""
        self.command(joint_positions, gripper_opening)
        self.data.qpos[self._arm] = joint_positions
        self.data.qpos[self._fingers] = self.contract.finger_positions(np.atleast_1d(gripper_opening).tolist())
        self.data.qvel[:] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def command(self, joint_positions: FloatArray, gripper_opening: float | Sequence[float]) -> None:
        """Set the references of the servos, held until the next call.

        Args:
            joint_positions: (n,) rad.
            gripper_opening: m; with several arms, one for each.

        Raises:
            SimulationError: when a value is not finite, or there are too few or too many.
        """
        positions = np.asarray(joint_positions, dtype=np.float64)
        openings = np.atleast_1d(np.asarray(gripper_opening, dtype=np.float64))
        arms, joints = len(self.contract.arms), len(self._arm)
        sound = positions.shape == (joints,) and openings.shape == (arms,)
        if not (sound and np.isfinite(positions).all() and np.isfinite(openings).all()):
            of_grippers = f" and {arms} openings" if arms > 1 else ""
            raise SimulationError(
                f"command {positions}, {gripper_opening}: expected {joints} finite joints{of_grippers}"
            )
        self.data.ctrl[self._arm_servo] = positions
        self.data.ctrl[self._finger_servo] = self.contract.finger_positions(openings.tolist())

    def step(self, duration: float) -> None:
        """Advance the physics by `duration` s (a whole number of 2 ms steps)."""
        count = round(duration / TIMESTEP)
        efforts = np.zeros(len(self._arm))
        for _ in range(count):
            mujoco.mj_step(self.model, self.data)
            efforts += self._instant_efforts()
        self._efforts = efforts / max(count, 1)
        self._steps += count
        if not np.isfinite(self.data.qpos).all():
            raise SimulationError(f"the physics diverged at {self.time:.3f} s")

    def state(self) -> RobotState:
        """Return the state that the robot's sensors would measure now."""
        positions, velocities = self.data.qpos[self._arm].copy(), self.data.qvel[self._arm_dof].copy()
        openings = self.contract.openings(self.data.qpos[self._fingers].tolist())
        if len(openings) > 1:
            return RobotState.of_arms(positions, velocities, openings, self.time)
        return RobotState(
            joint_positions=positions,
            joint_velocities=velocities,
            gripper_opening=openings[0],
            end_effector=self.kinematics.forward(positions),
            stamp=self.time,
            joint_efforts=self._efforts,
        )

    def _instant_efforts(self) -> FloatArray:
        """Return the torques at the gears' output in the last physics step, (n,) N m, gravity included.

        Servo and gravity compensation act at the gears' input; the rotors' inertia (armature) absorbs a part. A state
        reports their mean over the last `step`, as a filtered sensor does, since references change in jumps.
        """
        data, dof = self.data, self._arm_dof
        driven = data.qfrc_actuator[dof] + data.qfrc_passive[dof]
        return np.asarray(driven - self.model.dof_armature[dof] * data.qacc[dof], dtype=np.float64)

    def render(self, camera: str) -> ImageArray:
        """Render the image of `camera`, (height, width, 3) uint8 RGB."""
        size = self._sizes[self.contract.camera(camera).name]
        if size not in self._renderers:
            self._renderers[size] = CameraRenderer(self.model, *size)
        return self._renderers[size].render(self.data, camera)

    def policy_images(self) -> dict[str, ImageArray]:
        """Render every camera and resize the images exactly as the perception node does."""
        return {
            camera.name: resize_for_policy(self.render(camera.name), camera.policy_height, camera.policy_width)
            for camera in self.contract.cameras
        }

    def camera_matrix(self, camera: str) -> FloatArray:
        """Return the pinhole intrinsics (3, 3) of `camera`, px: square pixels, principal point at the center."""
        height, width = self._sizes[self.contract.camera(camera).name]
        focal = 0.5 * height / np.tan(np.radians(float(self.model.camera(camera).fovy[0])) / 2.0)
        return np.array([[focal, 0.0, width / 2.0], [0.0, focal, height / 2.0], [0.0, 0.0, 1.0]])

    def project(self, camera: str, point: FloatArray) -> tuple[float, float] | None:
        """Project a point (3,) m, base frame, into the image, (u, v) px; None if it is behind the camera."""
        view = self.data.camera(camera)
        local = view.xmat.reshape(3, 3).T @ (np.asarray(point) - view.xpos)  # MuJoCo cameras look along -z
        if local[2] >= -1e-6:
            return None
        u, v, w = self.camera_matrix(camera) @ np.array([local[0], -local[1], -local[2]])
        return float(u / w), float(v / w)

    @property
    def tool_positions(self) -> list[FloatArray]:
        """Position of each arm's tool, (3,) m, base frame."""
        placements = self.kinematics.placements(self.data.qpos[self._arm])
        return [np.asarray(placement.translation) for placement in placements]

    def bodies_between_fingers(self) -> set[int]:
        """Return the ids of the bodies touched by at least two fingers, of the same gripper or of different ones."""
        touching: dict[int, set[int]] = {}
        for contact in self.data.contact:
            for finger_geom, other in (contact.geom, contact.geom[::-1]):
                if finger_geom in self._finger_of_geom:
                    touching.setdefault(int(self.model.geom_bodyid[other]), set()).add(
                        self._finger_of_geom[finger_geom]
                    )
        return {body for body, fingers in touching.items() if len(fingers) >= 2}

    def close(self) -> None:
        """Close the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
