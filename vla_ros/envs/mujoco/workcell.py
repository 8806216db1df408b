"""The simulated cell: arm, table, objects and cameras in MuJoCo, deterministic by seed.

One thread at a time: MuJoCo's data and the OpenGL context belong to the thread that made them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vla_ros.envs.mujoco.rendering import CameraRenderer  # isort: skip  (sets the OpenGL back end before mujoco is imported)

import mujoco
import numpy as np

from vla_ros.envs.mujoco.fingers import finger_bodies
from vla_ros.envs.mujoco.layout import plan_layout
from vla_ros.envs.mujoco.model import ARM_BITS, OBJECT_BITS, TIMESTEP, build_model, slot_body, slot_geom
from vla_ros.envs.tabletop.objects import COLOURS, REACH, SHAPES, SceneObject, Shape, required_object, sample_scene
from vla_ros.envs.tabletop.tasks import LIFT_HEIGHT, TaskStatus, judge_pick, named_object, pick_instruction
from vla_ros.errors import SimulationError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray, ImageArray, RobotState

START_SPREAD = 0.08
"""Each arm joint starts within this of its home position, rad."""

PROGRESS_REACH = 0.4
"""Further than this from its target, m, an arm has made no progress."""

SETTLE_TIME = 0.3
"""Objects fall to rest for so long before a scene begins, s."""


class Cell:
    """A robot at a table, with the interface of the real thing: references in, state and images out."""

    def __init__(self, contract: RobotContract, *, camera_sizes: Mapping[str, tuple[int, int]] | None = None) -> None:
        """Build the cell of a robot; `camera_sizes` maps a camera to (height, width) in place of the contract's."""
        self.contract = contract
        self.kinematics = Kinematics(contract)
        self.layout = plan_layout(contract, self.kinematics)
        self.model = self._build()
        self.data = mujoco.MjData(self.model)
        self.objects: tuple[SceneObject, ...] = ()
        self.instruction = ""
        self._sizes = {c.name: (c.height, c.width) for c in contract.cameras} | dict(camera_sizes or {})
        self._renderers: dict[tuple[int, int], CameraRenderer] = {}
        self._arm = [self.model.joint(name).qposadr[0] for name in contract.joints.names]
        self._arm_dof = [self.model.joint(name).dofadr[0] for name in contract.joints.names]
        self._arm_servo = [self.model.actuator(name).id for name in contract.joints.names]
        self._fingers = [self.model.joint(name).qposadr[0] for name in contract.gripper.names]
        self._finger_servo = [self.model.actuator(name).id for name in contract.gripper.names]
        fingers = finger_bodies(self.model, contract)
        self._finger_of_geom = {
            geom: fingers[body] for geom, body in enumerate(self.model.geom_bodyid.tolist()) if body in fingers
        }
        self._camera_pos, self._camera_quat = self.model.cam_pos.copy(), self.model.cam_quat.copy()
        self._light_pos, self._light_diffuse = self.model.light_pos.copy(), self.model.light_diffuse.copy()
        self._table_rgba = self.model.geom("table").rgba.copy()
        self.reset(0)

    def _build(self) -> mujoco.MjModel:
        return build_model(self.contract, layout=self.layout)

    @property
    def time(self) -> float:
        """Simulation time, s: a whole number of physics steps; a scene begins at SETTLE_TIME, never at zero."""
        return self._steps * TIMESTEP

    def reset(self, seed: int, instruction: str | None = None) -> str:
        """Make the scene of `seed` and return its instruction.

        Args:
            seed: Decides objects, places, light, start pose and, without `instruction`, the task.
            instruction: Sentence to judge by; the object it names is put on the table.

        Raises:
            SimulationError: when the instruction names nothing that the cell has.
        """
        rng = np.random.default_rng(seed)
        scene, sentence = self._draw_scene(rng, instruction)  # what cannot be drawn leaves everything as it was
        mujoco.mj_resetData(self.model, self.data)
        self._set_scene(scene)
        self._vary_looks(rng)
        self._take_start(rng, START_SPREAD)
        self._rest = [float(self._object_position(slot)[2]) for slot in range(len(self.objects))]
        self.instruction = sentence
        return self.instruction

    def _draw_scene(self, rng: np.random.Generator, instruction: str | None) -> tuple[Any, str]:
        """Return what will lie on the table, as `_set_scene` takes it, and what is asked for."""
        objects = sample_scene(rng, required=required_object(instruction), reach=self.layout.area(REACH))
        chosen = objects[int(rng.integers(len(objects)))].name
        return objects, instruction or pick_instruction(chosen)

    def _set_scene(self, scene: Any) -> None:  # noqa: ANN401 (each world has its own)
        """Put the objects on the table."""
        self.objects = scene
        self.place(scene)

    def _take_start(self, rng: np.random.Generator, spread: float) -> None:
        """Bring the arm to within `spread` rad of home, open the gripper, and let everything fall to rest."""
        joints = self.contract.joints
        start = joints.home + rng.uniform(-spread, spread, joints.count)
        self.data.qpos[self._arm] = np.clip(start, joints.lower, joints.upper)
        self.command(self.data.qpos[self._arm], self.contract.gripper.max_opening)
        self.data.qpos[self._fingers] = self.contract.gripper.open
        self._efforts = np.zeros(len(self._arm))
        mujoco.mj_forward(self.model, self.data)
        self._steps = 0
        self.step(SETTLE_TIME)

    def place(self, objects: tuple[SceneObject, ...]) -> None:
        """Put `objects` on the table, one a slot, and hide the rest of each slot."""
        for slot, item in enumerate(objects):
            self._show(slot, item, SHAPES, COLOURS[item.colour])

    def _show(self, slot: int, item: SceneObject, shapes: Mapping[str, Shape], rgb: tuple[float, float, float]) -> None:
        """Let a slot be `item`, one of `shapes`, where it stands."""
        for name in shapes:
            geom = self.model.geom(slot_geom(slot, name))
            shown = name == item.shape
            geom.rgba[:] = (*rgb, 1.0) if shown else 0.0
            geom.contype[:] = OBJECT_BITS if shown else 0
            geom.conaffinity[:] = (ARM_BITS | OBJECT_BITS) if shown else 0
        self._put(slot_body(slot), item, shapes[item.shape].half_height + 0.002)

    def _put(self, body: str, item: SceneObject, height: float) -> None:
        """Let a body stand at the place of `item`, its origin `height` m above the table."""
        address = self.model.joint(body).qposadr[0]
        self.data.qpos[address : address + 7] = [
            *item.position, self.layout.top + height, np.cos(item.yaw / 2), 0.0, 0.0, np.sin(item.yaw / 2)
        ]  # fmt: skip

    def _vary_looks(self, rng: np.random.Generator) -> None:
        """Change light, table and camera a little, so that no policy learns one picture by heart."""
        self.model.light_pos[:] = self._light_pos + rng.uniform(-0.3, 0.3, self._light_pos.shape)
        self.model.light_diffuse[:] = self._light_diffuse * rng.uniform(0.8, 1.2)
        self.model.geom("table").rgba[:3] = np.clip(self._table_rgba[:3] + rng.uniform(-0.06, 0.06, 3), 0.0, 1.0)
        self.model.cam_pos[:] = self._camera_pos + rng.uniform(-0.004, 0.004, self._camera_pos.shape)

    def set_instruction(self, instruction: str) -> None:
        """Let the judge follow another sentence about the same scene.

        Raises:
            InstructionError: when it does not name one object on the table.
        """
        named_object(instruction, self.objects)
        self.instruction = instruction

    def command(self, joint_positions: FloatArray, gripper_opening: float) -> None:
        """Set the references of the servos: (n,) rad and m; held until the next call."""
        positions = np.asarray(joint_positions, dtype=np.float64)
        if positions.shape != (len(self._arm),) or not np.isfinite(positions).all() or not np.isfinite(gripper_opening):
            raise SimulationError(f"command {positions}, {gripper_opening}: expected {len(self._arm)} finite joints")
        self.data.ctrl[self._arm_servo] = positions
        self.data.ctrl[self._finger_servo] = self.contract.gripper.joint_positions(gripper_opening)

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
        """Return what the robot's sensors would say now."""
        positions = self.data.qpos[self._arm].copy()
        return RobotState(
            joint_positions=positions,
            joint_velocities=self.data.qvel[self._arm_dof].copy(),
            gripper_opening=self.contract.gripper.opening(self.data.qpos[self._fingers]),
            end_effector=self.kinematics.forward(positions),
            stamp=self.time,
            joint_efforts=self._efforts,
        )

    def _instant_efforts(self) -> FloatArray:
        """Return the torques behind the gears in the last physics step, (n,) N m, gravity included.

        Servo and gravity compensation act in front of the gears; the rotors' own inertia (armature) takes its part. A
        state reports their mean over the last `step`, as a sensor with a filter does: references change in jumps.
        """
        data, dof = self.data, self._arm_dof
        driven = data.qfrc_actuator[dof] + data.qfrc_passive[dof]
        return np.asarray(driven - self.model.dof_armature[dof] * data.qacc[dof], dtype=np.float64)

    def render(self, camera: str) -> ImageArray:
        """Return what `camera` sees, (height, width, 3) uint8 RGB."""
        size = self._sizes[self.contract.camera(camera).name]
        if size not in self._renderers:
            self._renderers[size] = CameraRenderer(self.model, *size)
        return self._renderers[size].render(self.data, camera)

    def camera_matrix(self, camera: str) -> FloatArray:
        """Return the pinhole intrinsics (3, 3) of `camera`, px: square pixels, centre in the middle."""
        height, width = self._sizes[self.contract.camera(camera).name]
        focal = 0.5 * height / np.tan(np.radians(float(self.model.camera(camera).fovy[0])) / 2.0)
        return np.array([[focal, 0.0, width / 2.0], [0.0, focal, height / 2.0], [0.0, 0.0, 1.0]])

    def project(self, camera: str, point: FloatArray) -> tuple[float, float] | None:
        """Return where a point (3,) m of the base frame falls in the image, (u, v) px; None behind the camera."""
        view = self.data.camera(camera)
        local = view.xmat.reshape(3, 3).T @ (np.asarray(point) - view.xpos)  # MuJoCo cameras look along -z
        if local[2] >= -1e-6:
            return None
        u, v, w = self.camera_matrix(camera) @ np.array([local[0], -local[1], -local[2]])
        return float(u / w), float(v / w)

    def _object_position(self, slot: int) -> FloatArray:
        return np.asarray(self.data.body(slot_body(slot)).xpos)

    def object_position(self, item: SceneObject) -> FloatArray:
        """Return where the centre of an object is now, (3,) m, base frame."""
        return self._object_position(self.objects.index(item)).copy()

    def grasped(self) -> str:
        """Return the name of the object that both fingers touch, or ""."""
        touching: dict[int, set[int]] = {}
        for contact in self.data.contact:
            for finger_geom, other in (contact.geom, contact.geom[::-1]):
                if finger_geom in self._finger_of_geom:
                    touching.setdefault(int(self.model.geom_bodyid[other]), set()).add(
                        self._finger_of_geom[finger_geom]
                    )
        for slot, item in enumerate(self.objects):
            if len(touching.get(self.model.body(slot_body(slot)).id, ())) >= 2:
                return item.name
        return ""

    @property
    def target(self) -> SceneObject:
        """The object that the current instruction names."""
        return named_object(self.instruction, self.objects)

    def handled(self) -> str:
        """Return the name of the object that the arm has done something with, or "": here the one it has lifted."""
        return self.lifted()

    def lifted(self) -> str:
        """Return the name of the object held above the table by both fingers, or ""."""
        held = self.grasped()
        for slot, item in enumerate(self.objects):
            if item.name == held and float(self._object_position(slot)[2]) - self._rest[slot] >= LIFT_HEIGHT:
                return held
        return ""

    def task_status(self) -> TaskStatus:
        """Judge the current instruction by the physics."""
        target = self.target
        slot = self.objects.index(target)
        return judge_pick(target, float(self._object_position(slot)[2]) - self._rest[slot], self.grasped())

    def progress(self) -> float:
        """Return how far the task has come, 0 to 1, also before anything is held: what a judge of clips goes by.

        The first half is the tool's way to the target, counted over the last `PROGRESS_REACH` m of it.
        """
        status = self.task_status()
        slot = self.objects.index(self.target)
        way = self._object_position(slot) - self.state().end_effector.position
        near = max(0.0, 1.0 - float(np.linalg.norm(way)) / PROGRESS_REACH)
        return max(0.5 * near, status.progress)

    def close(self) -> None:
        """Free the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
